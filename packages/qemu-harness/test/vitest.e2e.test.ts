import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodePng, encodePng } from "../src/vitest/png.ts";
import { descendants } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";
import { runVitest } from "./run-vitest.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const ROOT = fileURLToPath(new URL("./fixtures/vitest", import.meta.url));

const directory = mkdtempSync(join(tmpdir(), "qemu-harness-vitest-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe.skipIf(missing !== "")(titled("tests of machines in vitest", missing), () => {
  const pictures = join(ROOT, "__screenshots__");
  const env = {
    TOY_KERNEL: join(directory, "toy"),
    LEVERET_TEMPLATES: join(directory, "templates"),
    LEVERET_TEST_MEMORY_MIB: "100",
    LEVERET_TEST_RESULTS: join(directory, "results"),
  };
  let output = "";
  let result: ReturnType<typeof runVitest>["result"];

  beforeAll(() => {
    writeFileSync(join(directory, "toy"), toyKernel());
    ({ output, result } = runVitest({ root: ROOT, directory, env }));
  });
  afterAll(() => rmSync(pictures, { recursive: true, force: true }));

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

  test("fork one template for all of a file and of later ones", () => {
    for (const name of ["forks", "forks again"]) expect(result(name), output).toMatchObject({ state: "passed" });
    expect(output.match(/^prepared$/gm)).toHaveLength(1);
    expect(readdirSync(env.LEVERET_TEMPLATES)).toHaveLength(1);
  });

  test("compare the display with pictures, and show what differs", () => {
    expect(result("shows the same"), output).toMatchObject({ state: "passed" });
    const stored = join(pictures, "machines.test.mjs", "toy.png");
    const { width, height, pixels } = decodePng(readFileSync(stored), stored);
    expect(pixels.length).toBe(width * height * 3);
    const picture = { width, height, pixels: pixels.fill(99, 0, width * 3 * 40) };
    writeFileSync(stored, encodePng(picture));
    const again = runVitest({ root: ROOT, directory, env, args: ["-t", "shows the same"] });
    expect(again.result("shows the same"), again.output).toMatchObject({
      state: "failed",
      reasons: [
        expect.stringMatching(/expected the display as in .*toy\.png, got \d+ pixels .* that differ; see .*difference/),
      ],
    });
    const kept = join(directory, "results", "shows the same");
    expect(readdirSync(kept)).toEqual(expect.arrayContaining(["toy-actual.png", "toy-difference.png"]));
    const marked = decodePng(readFileSync(join(kept, "toy-difference.png")), "difference").pixels;
    expect(marked.subarray(0, 3)).toEqual(Uint8Array.of(255, 0, 80));
  });

  test("wait for memory until others have ended", () => {
    for (const name of ["a", "b", "c"]) expect(result(name), output).toMatchObject({ state: "passed" });
    const events = Array.from(output.matchAll(/(up|down) \d+/g), ([, what = ""]) => what);
    expect(events).toEqual(["up", "down", "up", "down", "up", "down"]);
  });
});
