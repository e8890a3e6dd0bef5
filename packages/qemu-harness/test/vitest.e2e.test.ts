import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { descendants } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const ROOT = fileURLToPath(new URL("./fixtures/vitest", import.meta.url));
const VITEST = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");

interface Result {
  readonly name: string;
  readonly state: string;
  readonly reasons: readonly string[];
}

const directory = mkdtempSync(join(tmpdir(), "qemu-harness-vitest-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe.skipIf(missing !== "")(titled("tests of machines in vitest", missing), () => {
  let output = "";
  const result = (name: string): Result | undefined =>
    Array.from(output.matchAll(/^RESULT (.*)$/gm), ([, json = ""]) => JSON.parse(json) as Result).find(
      (each) => each.name === name,
    );

  beforeAll(() => {
    writeFileSync(join(directory, "toy"), toyKernel());
    writeFileSync(join(directory, "vitest.config.mjs"), `export default { test: { include: ["**/*.test.mjs"]} };\n`);
    const args = [
      "run",
      "--root",
      ROOT,
      "--config",
      join(directory, "vitest.config.mjs"),
      "--reporter",
      join(ROOT, "reporter.mjs"),
    ];
    const { VITEST: _, VITEST_MODE: __, VITEST_WORKER_ID: ___, VITEST_POOL_ID: ____, ...env } = process.env;
    const { stdout, stderr } = spawnSync(process.execPath, [VITEST, ...args], {
      encoding: "utf8",
      env: {
        ...env,
        TOY_KERNEL: join(directory, "toy"),
        LEVERET_TEST_MEMORY_MIB: "100",
        LEVERET_TEST_RESULTS: join(directory, "results"),
      },
    });
    output = `${stdout}${stderr}`;
  });

  test("start machines that end with them", () => {
    expect(result("passes"), output).toMatchObject({ state: "passed" });
    expect(descendants(process.pid)).toEqual([]);
  });

  test("that fail leave what was said and shown", () => {
    const failed = result("fails");
    expect(failed, output).toMatchObject({ state: "failed", reasons: [expect.stringContaining('expected "never"')] });
    const kept = join(directory, "results", "fails");
    expect(readdirSync(kept).sort()).toEqual(["toy-display.png", "toy-serial0.txt"]);
    expect(readFileSync(join(kept, "toy-serial0.txt"), "utf8")).toContain("READY");
    expect(readFileSync(join(kept, "toy-display.png")).toString("latin1", 1, 4)).toBe("PNG");
    expect(output).toContain(kept);
  });

  test("wait for memory until others have ended", () => {
    for (const name of ["a", "b", "c"]) expect(result(name), output).toMatchObject({ state: "passed" });
    const events = Array.from(output.matchAll(/(up|down) \d+/g), ([, what = ""]) => what);
    expect(events).toEqual(["up", "down", "up", "down", "up", "down"]);
  });
});
