// npm start: everything that is missing is installed and built, then the example system is built, signed and booted.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join, relative } from "node:path";
import { buildWorkspaces, ensureDebianPackages, ensureNpmPackages, ROOT, since } from "./setup.mjs";

const example = join(ROOT, "examples", "particle");
const command = join(ROOT, "apps", "os-builder", "bin", "leveret-os.js");
const steps = [];

function step(name, action) {
  process.stdout.write(`\n── ${name}\n`);
  const start = performance.now();
  action();
  steps.push([name, since(start)]);
}

function leveretOs(...args) {
  const result = spawnSync(process.execPath, [command, ...args], { cwd: ROOT, stdio: "inherit" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

step("Set-up", () => {
  ensureNpmPackages();
  ensureDebianPackages(["apps/os-builder/tools.json"]);
  buildWorkspaces();
});
step("Keys", () => leveretOs("init", example, "--id", "particle"));
if (!existsSync(join(example, "os.lock.json"))) step("Packages", () => leveretOs("lock", example));
step("Image", () => leveretOs("image", example));
step("Boot", () => leveretOs("boot", example));
step("Trust", () => {
  const image = join(example, "images", "particle_0.1.0.raw");
  leveretOs("inspect", image, "--keys", join(example, "keys"));
  mkdirSync(join(example, "images"), { recursive: true });
});

const from = relative(process.cwd(), example) || ".";
const width = Math.max(...steps.map(([name]) => name.length));
process.stdout.write(`
Done:
${steps.map(([name, time]) => `  ${name.padEnd(width)}  ${time}`).join("\n")}

What was made is in ${from}/images; the description is ${from}/os.config.ts. To try next:

  npx leveret-os boot ${from} --serial          watch the boot on its console
  npx leveret-os inspect ${from}/images/particle_0.1.0.raw --svg > particle.svg
  npx leveret-os doctor                          what this machine has and lacks
  edit ${from}/os.config.ts, then: npx leveret-os lock ${from} && npx leveret-os boot ${from}
`);
