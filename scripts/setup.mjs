// Set-up that `npm start` and `npm test` share: whatever is missing is installed, and what is there is left alone.
// No dependencies: this runs before any are installed.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const STAMP = join(ROOT, "node_modules", ".leveret-lock");
const TIME_WIDTH = 11;
const INTERRUPTED = 130;
const GRACE_MS = 5000;

const terminal = process.stderr.isTTY === true;
let child;
let interrupted = false;

// A child in this terminal gets Ctrl-C twice, from the terminal and from here; each of them takes that for one.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    interrupted = true;
    if (child === undefined) process.exit(INTERRUPTED);
    if (child.finishes) process.stderr.write("\nwaiting for apt-get to end what it has begun\n");
    else if (child.group) endGroup(child.process.pid, signal);
    else child.process.kill(signal);
  });
}

function endGroup(leader, signal) {
  killGroup(leader, signal);
  setTimeout(() => killGroup(leader, "SIGKILL"), GRACE_MS).unref();
}

function killGroup(leader, signal) {
  try {
    process.kill(-leader, signal);
  } catch (error) {
    // Nobody is left in it.
    if (error.code !== "ESRCH") throw error;
  }
}

/**
 * Runs a program to its end. Its failure ends this one with the same exit code, unless `mayFail`.
 *
 * @param options - `onLine` gets its output line by line; otherwise it writes where this program does. `finishes` keeps
 *   it from being interrupted half-way. `group` ends whatever it has started together with it. `stdout: "text"` returns
 *   what it printed there.
 */
export async function run(program, args, options = {}) {
  const { env = process.env, onLine, finishes = false, group = false, mayFail = false, stdout } = options;
  const piped = onLine !== undefined;
  const started = spawn(program, args, {
    cwd: ROOT,
    env,
    stdio: [piped ? "ignore" : "inherit", piped || stdout === "text" ? "pipe" : "inherit", piped ? "pipe" : "inherit"],
    // In a session of its own no key that is pressed here reaches it.
    detached: finishes || group,
  });
  child = { process: started, finishes, group };
  let text = "";
  const collect = (stream) => {
    let rest = "";
    stream?.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      for (const line of lines) onLine?.(line);
    });
  };
  collect(started.stdout);
  collect(started.stderr);
  const exitCode = await new Promise((resolve) => {
    started.once("error", (error) => {
      text += `could not run ${program}: ${error.message}\n`;
      resolve(127);
    });
    started.once("close", (code) => resolve(code ?? 1));
  });
  child = undefined;
  if (group && started.pid !== undefined) killGroup(started.pid, "SIGKILL");
  if (interrupted) {
    clearLine();
    if (piped || stdout === "text") process.stderr.write("interrupted; the next run goes on from here\n");
    process.exit(INTERRUPTED);
  }
  if (exitCode !== 0 && !mayFail) {
    clearLine();
    if (piped || exitCode === 127)
      process.stderr.write(`${text}\n${program} ${args.join(" ")}: ended with ${exitCode}\n`);
    process.exit(exitCode);
  }
  return { exitCode, text };
}

/** Prints why nothing more can be done, and ends. */
export function fail(message) {
  clearLine();
  process.stderr.write(`${colour(31, "error", process.stderr)}: ${message}\n`);
  process.exit(1);
}

/** Colours text for a terminal that wants colours. */
export function colour(code, text, stream = process.stdout) {
  const plain = stream.isTTY !== true || (process.env.NO_COLOR ?? "") !== "" || process.env.TERM === "dumb";
  return plain ? text : `\u001b[${code}m${text}\u001b[0m`;
}

/** Milliseconds for people: `12.3 s`, `1 min 15 s`. */
export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(Math.round(seconds) / 60)} min ${Math.round(seconds) % 60} s`;
}

/** Runs `action`, which reports what it has in hand, and leaves one line that says how long it took. */
async function task(name, action) {
  const start = performance.now();
  let item = "";
  const time = () => colour(2, duration(performance.now() - start).padStart(TIME_WIDTH), process.stderr);
  const draw = () => {
    const line = `${duration(performance.now() - start).padStart(TIME_WIDTH)}  ${name}${item === "" ? "" : ` · ${item}`}`;
    process.stderr.write(`\r\u001b[2K${line.slice(0, (process.stderr.columns || 80) - 1)}`);
  };
  const ticker = terminal ? setInterval(draw, 200) : undefined;
  const result = await action((text) => {
    item = text;
  });
  clearInterval(ticker);
  clearLine();
  process.stderr.write(`${time()}  ${name}${result ? ` · ${result}` : ""}\n`);
}

function clearLine() {
  if (terminal) process.stderr.write("\r\u001b[2K");
}

/** Installs npm packages as locked, unless they are there. */
export async function ensureNpmPackages() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail(`expected Node 20.19 or newer, got ${process.versions.node}`);
  const lock = readFileSync(join(ROOT, "package-lock.json"));
  const platform = `${process.platform} ${process.arch}`;
  const wanted = createHash("sha256").update(lock).update(platform).digest("hex");
  if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === wanted) return;
  // Without the stamp whatever is there counts as half-installed, also after a power cut.
  rmSync(STAMP, { force: true });
  await task("installing npm packages", async (report) => {
    report(`${Object.keys(JSON.parse(lock).packages).length} in the lock`);
    const { text } = await run("npm", ["ci", "--no-audit", "--no-fund"], { onLine: () => {} });
    return /added (\d+) packages/.exec(text)?.[1];
  });
  mkdirSync(dirname(STAMP), { recursive: true });
  writeFileSync(`${STAMP}.new`, wanted);
  renameSync(`${STAMP}.new`, STAMP);
}

/**
 * Installs missing Debian packages as root or with sudo; otherwise prints the one line to run, and ends. With
 * `LEVERET_NO_APT` set, somebody else has seen to the programs.
 */
export async function ensureDebianPackages(lists) {
  if ((process.env.LEVERET_NO_APT ?? "") !== "") return;
  const missing = missingDebianPackages(lists);
  if (missing.length === 0) return;
  if (!isOnPath("apt-get")) fail(`missing ${missing.join(", ")} (Debian's names): install them and try again`);
  const isRoot = process.getuid() === 0;
  // Asked as it will be used: without a terminal to type a password into.
  const sudoWorks = !isRoot && (await run("sudo", ["-n", "true"], { onLine: () => {}, mayFail: true })).exitCode === 0;
  if (!isRoot && !sudoWorks) {
    const line = `apt-get update && apt-get install --yes --no-install-recommends ${missing.join(" ")}`;
    const asRoot = isOnPath("sudo") ? `sudo sh -c '${line}'` : `su -c '${line}'`;
    fail(`missing Debian packages: ${missing.join(" ")}\n\nRun this line and try again:\n\n  ${asRoot}\n`);
  }
  const aptGet = (args, onLine, mayFail) => {
    const command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "APT::Status-Fd=1", "-q", ...args];
    const [program, ...rest] = isRoot ? command : ["sudo", "-n", ...command];
    return run(program, rest, { onLine, finishes: true, mayFail });
  };
  // A source that has nothing to do with this may be out of reach; what is needed shows when it is installed.
  await task("reading Debian's package lists", async () => void (await aptGet(["update"], () => {}, true)));
  await task(`installing ${missing.join(" ")}`, async (report) => {
    const install = ["install", "--yes", "--no-install-recommends", ...missing];
    const { text } = await aptGet(install, (line) =>
      report(/^(?:dl|pm)status:[^:]*:[^:]*:(.*)$/.exec(line)?.[1] ?? ""),
    );
    return /Need to get ([^ ]+ \S?B)/.exec(text)?.[1];
  });
  const still = missingDebianPackages(lists);
  if (still.length > 0) fail(`installed, but still missing: ${still.join(", ")}`);
}

// Lists are JSON files of `{ program | file, package }`.
function missingDebianPackages(lists) {
  const tools = lists.flatMap((list) => JSON.parse(readFileSync(join(ROOT, list), "utf8")));
  const missing = tools.filter(({ program, file }) => !(program ? isOnPath(program) : existsSync(file)));
  return [...new Set(missing.map((tool) => tool.package))].sort();
}

/** Compiles every package; nothing happens when nothing changed. */
export async function buildWorkspaces() {
  const env = { ...process.env, TURBO_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" };
  const turbo = join(ROOT, "node_modules", ".bin", "turbo");
  const args = ["run", "build", "--output-logs=new-only", "--log-order=stream", "--no-update-notifier"];
  await task("compiling", async (report) => {
    const { text } = await run(turbo, args, {
      env,
      onLine: (line) => report(/^(@leveret\/[^:]+):/.exec(line)?.[1] ?? ""),
    });
    const [, cached, total] = /(\d+) cached, (\d+) total/.exec(text) ?? [];
    return cached === total ? "nothing changed" : `${total - cached} packages`;
  });
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
