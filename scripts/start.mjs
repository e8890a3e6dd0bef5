// npm start: everything that is missing is installed and built, then the example system is built, signed and booted.
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import {
  buildWorkspaces,
  colour,
  duration,
  ensureDebianPackages,
  ensureNpmPackages,
  fail,
  ROOT,
  run,
} from "./setup.mjs";

const PLAIN = 0;
const BOLD = 1;
const DIM = 2;
const GREEN = 32;

const example = join("examples", "particle");
const program = join(ROOT, "apps", "os-builder", "bin", "leveret-os.js");
const steps = [];

async function step(name, action) {
  process.stdout.write(`\n${colour(BOLD, name)}\n`);
  const start = performance.now();
  await action();
  steps.push(`${duration(performance.now() - start).padStart(11)}  ${name}`);
}

const leveretOs = (...args) => run(process.execPath, [program, ...args]);

/** The JSON document of a command whose failure is an answer too. */
async function leveretOsJson(...args) {
  const { text } = await run(process.execPath, [program, ...args, "--json"], { stdout: "text", mayFail: true });
  return JSON.parse(text);
}

/** Why a lock is of no use any more. */
const OUTDATED = {
  OS_STALE_LOCK: "the description asks for other packages than those that are locked",
  // Mirrors keep one version of a package, and this lock is older than theirs.
  NIX_GEN_NOT_ON_MIRROR: "a locked package is gone from the mirror",
};

async function buildImage() {
  const built = await leveretOsJson("image", example);
  const reason = OUTDATED[built.code];
  if (reason === undefined) return built;
  process.stdout.write(`  ${reason}: locking the newest ones\n`);
  await leveretOs("lock", example);
  return await leveretOsJson("image", example);
}

let image;
await step("Set-up", async () => {
  await ensureDebianPackages(["apps/os-builder/tools.json"]);
  await ensureNpmPackages();
  await buildWorkspaces();
});
await step("Keys", () => leveretOs("init", example, "--id", "particle"));
if (!existsSync(join(ROOT, example, "os.lock.json"))) await step("Packages", () => leveretOs("lock", example));
await step("Image", async () => {
  image = await buildImage();
  if (image.kind === "error") fail([`${image.message} [${image.code}]`, image.hint].filter(Boolean).join("\n  "));
  process.stdout.write(image.upToDate ? "  nothing changed: the image is up to date\n" : "");
});
await step("Boot", () => leveretOs("boot", example));
await step("Trust", () => leveretOs("inspect", relative(ROOT, image.disk), "--keys", join(example, "keys")));

const mebibytes = (bytes) => `${Math.round(bytes / 1024 / 1024)} MiB`;
const here = (path) => relative(process.cwd(), path) || ".";
const project = here(join(ROOT, example));
const made = [
  [here(image.disk), `disk image, ${mebibytes(image.usedBytes)} of ${mebibytes(image.sizeBytes)} in use`],
  [here(image.uki), `signed kernel image, ${mebibytes(image.ukiBytes)}`],
  [`${project}/keys`, "the keys it is signed with; they are yours, and stay out of Nix and of Git"],
];
const next = [
  ["watch the boot on its console", `npx leveret-os boot ${project} --serial`],
  ["draw the image", `npx leveret-os inspect ${here(image.disk)} --svg > particle.svg`],
  ["see what this machine has", "npx leveret-os doctor"],
  ["edit os.config.ts, build and boot it", `npx leveret-os lock ${project} && npx leveret-os boot ${project}`],
];
const columns = (rows, [first, second]) => {
  const width = Math.max(...rows.map(([text]) => text.length));
  return rows.map(([left, right]) => `  ${colour(first, left.padEnd(width))}  ${colour(second, right)}`).join("\n");
};

process.stdout.write(`
${colour(GREEN, "✓")} ${colour(BOLD, `${image.id} ${image.imageVersion}`)} is built and signed, and its boot was verified from inside

${steps.join("\n")}

${colour(BOLD, "Made")}
${columns(made, [PLAIN, DIM])}

${colour(BOLD, "Next")}
${columns(next, [DIM, PLAIN])}
`);
