// npm run bench: how fast and how small this is beside what people would use instead, as ratios of one run. With names
// of parts it runs these only; --json prints one document; --rounds says how often each side is measured; --no-setup
// takes what is installed and compiled as it is. Ends with 1 when a part could not run, whatever the numbers are.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildWorkspaces, colour, ensureDebianPackages, ensureNpmPackages } from "./setup.mjs";

const PARTS = [
  "verity",
  "erofs-read",
  "erofs-write",
  "uki",
  "nothing-changed",
  "one-file",
  "cold",
  "disk",
  "boot",
  "disk-in-node",
  "fork",
];
const GREEN = 32;
const RED = 31;
const EXIT = { failed: 1, usage: 2, interrupted: 130 };

const { flags, wanted } = parseCommand();
// Foreign tools that Debian keeps in sbin are found without being root.
process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
if (!flags["no-setup"]) {
  await ensureDebianPackages(["apps/os-builder/tools.json", "scripts/oracles.json"]);
  await ensureNpmPackages();
  await buildWorkspaces();
}
const { formatBytes, formatDuration, startProgress, table } = await import("../packages/command/dist/index.js");
const { NotRunnable } = await import("../bench/measure.mjs");
// Each part needs only what it measures to be built.
const part = (file, name) => async (context) => (await import(`../bench/${file}.mjs`))[name](context);
const measure = {
  verity: part("verity", "verity"),
  "erofs-read": part("erofs", "erofsRead"),
  "erofs-write": part("erofs", "erofsWrite"),
  uki: part("uki", "uki"),
  "nothing-changed": part("rebuild", "nothingChanged"),
  "one-file": part("rebuild", "oneFile"),
  cold: part("images", "cold"),
  disk: part("images", "disk"),
  boot: part("images", "boot"),
  "disk-in-node": part("disk", "diskInNode"),
  fork: part("fork", "fork"),
};

// From here on there are things to tidy up, which leaving at once would not do.
const interruption = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.removeAllListeners(signal);
  process.on(signal, () => interruption.abort());
}
const { signal } = interruption;

const rows = [];
const notRun = [];
const temporary = await mkdtemp(join(tmpdir(), "leveret-bench-"));
const drawn = startProgress({ stderr: process.stderr, env: process.env });
const made = [];
const context = {
  signal,
  progress: drawn.update,
  rounds: flags.rounds === undefined ? undefined : Number(flags.rounds),
  temporary: async (name) => {
    const directory = join(temporary, name);
    await mkdir(directory);
    return directory;
  },
};
context.project = shared(async () => (await import("../bench/project.mjs")).Project.create(context));
context.mkosi = shared(async () =>
  (await import("../bench/mkosi.mjs")).MkosiImage.create(context, (await context.project()).lockFile),
);

try {
  for (const name of wanted) {
    try {
      for (const result of await measure[name](context)) rows.push({ part: name, ...result });
    } catch (error) {
      if (signal.aborted) break;
      notRun.push({ part: name, reason: error.message });
      if (!(error instanceof NotRunnable) && error.code === undefined) process.stderr.write(`\n${error.stack}\n`);
    }
  }
} finally {
  drawn.finish();
  for (const promise of made) await promise.then((thing) => thing.remove()).catch(() => {});
  await rm(temporary, { recursive: true, force: true });
}
if (signal.aborted) process.exit(EXIT.interrupted);
process.stdout.write(flags.json ? `${JSON.stringify(document(), null, 2)}\n` : render());
process.exitCode = notRun.length === 0 ? 0 : EXIT.failed;

/** Makes a thing once, for whichever part asks first; it is removed in the end. */
function shared(make) {
  let promise;
  return () => {
    if (promise === undefined) {
      promise = make();
      made.push(promise);
    }
    return promise;
  };
}

function parseCommand() {
  const usage = `usage: npm run bench -- [--json] [--rounds N] [--no-setup] [PART…]\nparts: ${PARTS.join(", ")}\n`;
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean" },
        rounds: { type: "string" },
        "no-setup": { type: "boolean" },
        help: { type: "boolean" },
      },
    });
    const unknown = positionals.filter((name) => !PARTS.includes(name));
    if (unknown.length > 0) throw new Error(`unknown part: ${unknown.join(", ")}`);
    if (values.rounds !== undefined && !/^[1-9]\d?$/.test(values.rounds)) {
      throw new Error(`expected 1 to 99 rounds, got ${values.rounds}`);
    }
    if (values.help) {
      process.stdout.write(usage);
      process.exit();
    }
    return { flags: values, wanted: PARTS.filter((part) => positionals.length === 0 || positionals.includes(part)) };
  } catch (error) {
    process.stderr.write(`${error.message}\n${usage}`);
    process.exit(EXIT.usage);
  }
}

function document() {
  const machine = { cores: availableParallelism(), load: loadavg()[0], node: process.versions.node };
  return { kind: "bench", version: 1, machine, rows, notRun };
}

function render() {
  const time = (ms) => (ms < 10_000 ? `${(ms / 1000).toFixed(2)} s` : formatDuration(ms));
  const amount = (value, unit) => (unit === "bytes" ? formatBytes(value) : time(value));
  const target = ({ atMost, of, exclusive }) =>
    `${exclusive ? "<" : "≤"} ${of === "ratio" ? `${atMost}×` : amount(atMost, of)}`;
  const lines = rows.map(({ what, unit, ours, theirs, ratio, target: limit, ok, note }) => [
    what,
    amount(ours, unit),
    theirs === undefined ? "" : amount(theirs, unit),
    ratio === undefined ? "" : `${ratio.toFixed(2)}×`,
    target(limit),
    ok ? "ok" : "over",
    note ?? "",
  ]);
  const [head = "", ...body] = table([["what", "ours", "theirs", "ratio", "target", "", ""], ...lines]).split("\n");
  const text = body.map((line, index) => colour(rows[index].ok ? GREEN : RED, line));
  const missing = notRun.map(({ part, reason }) => `not run: ${part}: ${reason}\n`);
  return `${rows.length === 0 ? "" : [head, ...text, ""].join("\n")}${missing.join("")}`;
}
