// What `npm run fuzz` finds with few inputs, and that it would find what is wrong.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const SCRIPT = fileURLToPath(new URL("../scripts/fuzz.mjs", import.meta.url));

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

/** A decoder that is wrong for inputs whose first byte has its highest bit set. */
function planted(body) {
  const path = join(folder, "planted.mjs");
  const target = `{
    name: "planted",
    code: "planted.mjs",
    isExpected: (error) => error instanceof RangeError,
    seeds: async () => [new Uint8Array(8)],
    run: async (bytes) => { if (bytes[0] > 127) { ${body} } if (bytes[0] > 63) throw new RangeError("expected less"); },
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

test("wrong usage is told", () => {
  expect(fuzz("no such decoder").status).toBe(2);
  expect(fuzz("--runs", "many").status).toBe(2);
});
