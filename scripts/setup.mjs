// Set-up that `npm start` and `npm test` share: whatever is missing is installed, and what is there is left alone.
// No dependencies: this runs before any are installed.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const STAMP = join(ROOT, "node_modules", ".leveret-lock");

/** Runs a program in the foreground; its failure ends this one with the same exit code. */
export function run(program, args, options = {}) {
  const result = spawnSync(program, args, { cwd: ROOT, stdio: "inherit", ...options });
  if (result.error) fail(`could not run ${program}: ${result.error.message}`);
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** Prints why nothing more can be done, and ends. */
export function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

/** Seconds since `start` for a summary: `12.3 s`. */
export function since(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

/** Installs npm packages as locked, unless they are there. */
export function ensureNpmPackages() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail(`expected Node 20.19 or newer, got ${process.versions.node}`);
  const wanted = createHash("sha256").update(readFileSync(join(ROOT, "package-lock.json"))).digest("hex");
  if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === wanted) return;
  process.stdout.write("Installing npm packages\n");
  run("npm", ["ci", "--no-audit", "--no-fund"]);
  mkdirSync(dirname(STAMP), { recursive: true });
  writeFileSync(STAMP, wanted);
}

/** Debian packages of `lists` (JSON files of `{ program | file, package }`) that are not there. */
export function missingDebianPackages(lists) {
  const tools = lists.flatMap((list) => JSON.parse(readFileSync(join(ROOT, list), "utf8")));
  const missing = tools.filter(({ program, file }) => !(program ? isOnPath(program) : existsSync(file)));
  return [...new Set(missing.map((tool) => tool.package))].sort();
}

/** Installs missing Debian packages as root or with sudo; otherwise prints the one line to run, and ends. */
export function ensureDebianPackages(lists) {
  const missing = missingDebianPackages(lists);
  if (missing.length === 0) return;
  const install = ["apt-get", "install", "--yes", "--no-install-recommends", ...missing];
  const asRoot = process.getuid() === 0 ? [] : ["sudo"];
  const line = [...asRoot, "apt-get", "update", "&&", ...asRoot, ...install].join(" ");
  if (!isOnPath("apt-get")) fail(`Missing: ${missing.join(", ")} (Debian's names). Install them and try again.`);
  if (asRoot.length > 0 && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status !== 0) {
    fail(`Missing Debian packages. Run this and try again:\n\n  ${line}\n`);
  }
  process.stdout.write(`Installing Debian packages: ${missing.join(" ")}\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const [program = "", ...args] = [...asRoot, "apt-get"];
  run(program, [...args, "update", "-q"], { env, stdio: ["ignore", "ignore", "inherit"] });
  run(program, [...args, ...install.slice(1), "-q"], { env, stdio: ["ignore", "ignore", "inherit"] });
  const still = missingDebianPackages(lists);
  if (still.length > 0) fail(`Installed, but still missing: ${still.join(", ")}`);
}

/** Compiles every package; nothing happens when nothing changed. */
export function buildWorkspaces() {
  const env = { ...process.env, TURBO_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" };
  const turbo = join(ROOT, "node_modules", ".bin", "turbo");
  run(turbo, ["run", "build", "--output-logs=errors-only", "--no-update-notifier"], { env });
}

function isOnPath(program) {
  // Debian keeps some of these where an ordinary user's PATH doesn't lead.
  return [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"].some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
