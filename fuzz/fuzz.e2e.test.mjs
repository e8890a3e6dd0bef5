// What `npm run fuzz` finds with few inputs, and that it would find what is wrong.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const SCRIPT = fileURLToPath(new URL("../scripts/fuzz.mjs", import.meta.url));
const DOCUMENT = new URL("../docs/fuzzing.md", import.meta.url);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "leveret-fuzz-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fuzz(...argv) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, "--no-setup", "--json", ...argv], {
    encoding: "utf8",
    cwd: folder,
  });
  return { status, stderr, document: stdout === "" ? undefined : JSON.parse(stdout) };
}

/** A decoder that is wrong for inputs whose first byte has its highest bit set, unless it takes other steps. */
function planted(
  body,
  steps = [`if (bytes[0] > 127) { ${body} }`, 'if (bytes[0] > 63) throw new RangeError("expected less");'],
) {
  const path = join(folder, "planted.mjs");
  const target = `{
    name: "planted",
    code: new URL(import.meta.url),
    isExpected: (error) => error instanceof RangeError,
    seeds: async () => [new Uint8Array(8)],
    run: async (bytes) => { ${steps.join(" ")} },
  }`;
  writeFileSync(path, `export const targets = [${target}];\n`);
  return path;
}

test("no decoder throws what is no error of its package, hangs, or takes too much memory", () => {
  const { status, stderr, document } = fuzz("--runs", "400", "--seed", "20261122");
  expect({ status, failed: document.results.filter(({ failure }) => failure !== undefined) }, stderr).toEqual({
    status: 0,
    failed: [],
  });
  // Each of them was reached, by inputs that are wrong in more than one way.
  for (const { name, runs, outcomes } of document.results) {
    expect({ name, runs }).toEqual({ name, runs: 400 });
    expect(Object.keys(outcomes).length, name).toBeGreaterThan(1);
  }
});

test.each([
  ["throws what is no error of the package", 'throw new TypeError("oops");', "TypeError: oops"],
  ["never ends", "for (;;) {}", "took longer than 10 s"],
  ["takes too much memory", "const all = []; for (;;) all.push(new Array(100_000).fill(bytes[0]));", "too much memory"],
])("a decoder that %s is found, with the input that does it", (_, body, reason) => {
  const { status, stderr, document } = fuzz("--runs", "2000", "--seed", "7", "--targets", planted(body));
  expect(status).toBe(1);
  expect(document.results[0].failure).toContain(reason);
  const [, input] = /--input (\S+)$/m.exec(stderr);
  expect(readFileSync(input)[0]).toBeGreaterThan(127);
  rmSync(input);
});

test("the same seed gives the same inputs, another one others", () => {
  const file = planted("");
  const outcomes = (seed) => fuzz("--runs", "1000", "--seed", seed, "--targets", file).document.results[0].outcomes;
  const first = outcomes("7");
  expect(first.RangeError).toBeGreaterThan(0);
  expect(outcomes("7")).toEqual(first);
  expect(outcomes("8")).not.toEqual(first);
});

test("inputs that reach new places are kept, so that others go further", () => {
  // By chance alone, bytes that are right one after the other would take millions of inputs.
  const steps = [255, 128, 64, 32].map((byte, index) => `if (bytes[${index}] !== ${byte}) throw new RangeError();`);
  const { outcomes, corpus } = fuzz("--runs", "60000", "--seed", "7", "--targets", planted("", steps)).document
    .results[0];
  expect(outcomes.ok).toBeGreaterThan(0);
  expect(corpus).toBeGreaterThan(steps.length);
});

test("a record keeps what was tried, and what is in it is not tried again", () => {
  const path = join(folder, "record.md");
  writeFileSync(path, `# Record\n\n${readFileSync(DOCUMENT, "utf8").match(/^\| decoder.*$/m)}\n\nBehind it.\n`);
  const argv = ["--runs", "500", "--seed", "7", "--record", path, "--targets", planted("")];
  expect(fuzz(...argv).document.results).toHaveLength(1);
  const recorded = readFileSync(path, "utf8");
  expect(recorded).toMatch(/^\| planted \| 500 \| .* \| 7 \| \d{4}-\d\d-\d\d \| none \|\n\nBehind it\.$/m);
  expect(fuzz(...argv).document.results).toEqual([]);
  expect(readFileSync(path, "utf8")).toBe(recorded);
});

test("wrong usage is told", () => {
  expect(fuzz("no such decoder").status).toBe(2);
  expect(fuzz("--runs", "many").status).toBe(2);
  expect(fuzz("--record", SCRIPT).status).toBe(2);
});
