// npm run fuzz: gives every decoder inputs that an attacker could have written, and ends with 1 when one of them throws
// anything but its package's error, hangs, or takes too much memory. With parts of names it runs these decoders only;
// --runs says how many inputs each gets, --seed repeats a run, --input gives one decoder one file; --targets takes
// decoders from another module; --record FILE keeps a table of what was tried and leaves out what is in it; --jobs says how
// many decoders run at once; --json prints one document; --no-setup takes what is compiled as it is.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { campaign, MAX_INPUT_MS } from "../fuzz/campaign.mjs";
import { Record } from "../fuzz/record.mjs";
import { buildWorkspaces, ensureNpmPackages } from "./setup.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FOUND = join(ROOT, ".leveret", "fuzz");
const EXIT = { failed: 1, usage: 2 };

const { flags, wanted } = parseCommand();
if (!flags["no-setup"]) {
  await ensureNpmPackages();
  await buildWorkspaces();
}
const { formatBytes, formatDuration, startProgress, table } = await import("../packages/command/dist/index.js");
const all = await findTargets();
const named = all.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
if (named.length === 0) usage(`expected some of ${all.map(({ name }) => name).join(", ")}`);
if (flags.input !== undefined && named.length !== 1) usage("expected the name of one decoder with --input");

const runs = Number(flags.runs);
const record =
  flags.record === undefined ? undefined : await Record.open(flags.record).catch((error) => usage(error.message));
const targets = named.filter(({ name }) => record?.has(name, runs) !== true);
const seed = flags.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(flags.seed);
const input = flags.input === undefined ? undefined : Uint8Array.from(await readFile(flags.input));
const progress = startProgress({ stderr: process.stderr, env: process.env });
const results = new Map();
const queue = [...targets];
await Promise.all(
  Array.from({ length: Math.min(flags.jobs ?? availableParallelism(), queue.length) }, async () => {
    for (let target = queue.shift(); target !== undefined; target = queue.shift()) {
      const onProgress = (done) => progress.update({ step: target.name, done, total: runs });
      const result = await campaign(target, { runs, seed, input, onProgress });
      results.set(target.name, result);
      await record?.add(target.name, {
        seed,
        ...result,
        slowest: formatDuration(result.slowestMs ?? 0),
        memory: formatBytes(result.peakBytes ?? 0),
      });
    }
  }),
);
progress.finish();
const failures = await Promise.all(targets.map(({ name }) => report(name, results.get(name))));
if (flags.json) {
  const rows = targets.map(({ name }) => ({ name, ...results.get(name), failure: results.get(name).failure?.reason }));
  process.stdout.write(`${JSON.stringify({ kind: "fuzz", version: 1, seed, runs, results: rows })}\n`);
} else {
  process.stdout.write(`${overview()}\n\nseed ${seed}\n`);
}
if (failures.some(Boolean)) process.exitCode = EXIT.failed;

/** Each module in `fuzz/targets/` exports the decoders of a package. */
async function findTargets() {
  const folder = join(ROOT, "fuzz", "targets");
  const usual = (await readdir(folder)).sort().map((name) => join(folder, name));
  const files = flags.targets === undefined ? usual : [resolve(flags.targets)];
  const found = await Promise.all(
    files.map(async (file) => (await import(file)).targets.map((target) => ({ ...target, file }))),
  );
  return found.flat();
}

/** Keeps an input that did harm, and says how to try it again. @returns Whether there was one. */
async function report(name, { failure, slowestMs = 0 }) {
  if (failure === undefined && slowestMs > MAX_INPUT_MS) {
    process.stderr.write(`note: an input of ${name} took ${formatDuration(slowestMs)}\n`);
  }
  if (failure === undefined) return false;
  const digest = createHash("sha256").update(failure.bytes).digest("hex").slice(0, 16);
  const folder = join(FOUND, name.replaceAll(/\W+/g, "-"));
  await mkdir(folder, { recursive: true });
  const path = join(folder, digest);
  await writeFile(path, failure.bytes);
  process.stderr.write(`${name}: ${failure.reason}\n  npm run fuzz -- ${JSON.stringify(name)} --input ${path}\n`);
  return true;
}

function overview() {
  const rows = targets.map(({ name }) => {
    const {
      runs: done = 0,
      seconds,
      slowestMs = 0,
      peakBytes = 0,
      corpus,
      places,
      outcomes = {},
      failure,
    } = results.get(name);
    const codes = Object.entries(outcomes).sort(([, a], [, b]) => b - a);
    return [
      failure === undefined ? "✓" : "✗",
      name,
      `${done}`,
      `${Math.round(done / seconds)}/s`,
      formatDuration(slowestMs),
      formatBytes(peakBytes),
      `${corpus ?? "-"}`,
      `${places ?? "-"}`,
      codes.map(([code, count]) => `${code} ${count}`).join(", "),
    ];
  });
  return table([["", "decoder", "inputs", "speed", "slowest", "memory", "corpus", "places", "outcomes"], ...rows]);
}

function parseCommand() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        runs: { type: "string", default: "20000" },
        seed: { type: "string" },
        input: { type: "string" },
        targets: { type: "string" },
        record: { type: "string" },
        jobs: { type: "string" },
        json: { type: "boolean", default: false },
        "no-setup": { type: "boolean", default: false },
      },
    });
    for (const name of ["runs", "seed", "jobs"]) {
      if (values[name] !== undefined && !/^\d+$/.test(values[name])) usage(`expected a number for --${name}`);
    }
    return { flags: values, wanted: positionals };
  } catch (error) {
    return usage(error.message);
  }
}

function usage(message) {
  process.stderr.write(
    `${message}\nusage: npm run fuzz -- [NAME...] [--runs N] [--seed N] [--input FILE] [--targets FILE] [--jobs N] [--record FILE] [--json] [--no-setup]\n`,
  );
  process.exit(EXIT.usage);
}
