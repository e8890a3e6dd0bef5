import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { encodeCpio } from "../../src/image/cpio.ts";
import { scratch } from "../support/io.ts";
import { needs, run } from "../support/oracles.ts";

const FILES = ["a", "b/c", "b/d/eight-ch", "b/d/ninechars"].map((path, index) => ({
  path,
  data: Buffer.alloc(index * 3 + 1, path),
}));
const EPOCH_SECONDS = 1_700_000_000;

describe.each([
  ["cpio", ["--extract", "--quiet", "--preserve-modification-time"], ["-itv", "--quiet", "--numeric-uid-gid"]],
  ["bsdcpio", ["-i", "-m"], ["-itv", "-n"]],
])("%s", (tool, extract, list) => {
  test("reads what was written", async (context) => {
    needs(context, tool);
    const directory = await scratch();
    const archive = encodeCpio(FILES, EPOCH_SECONDS);
    await writeFile(join(directory, "archive"), archive);
    await mkdir(join(directory, "out"));
    run(tool, extract, { cwd: join(directory, "out"), input: archive });
    for (const { path, data } of FILES) expect(await readFile(join(directory, "out", path))).toEqual(data);
    const lines = run(tool, list, { input: archive }).trim().split("\n");
    const entries = lines.map((line) => line.replace(/ +/g, " ").replace(/ Nov 14 2023 /, " "));
    expect(entries).toEqual([
      "drwxr-xr-x 2 0 0 0 b",
      "drwxr-xr-x 2 0 0 0 b/d",
      "-rw-r--r-- 1 0 0 1 a",
      "-rw-r--r-- 1 0 0 4 b/c",
      "-rw-r--r-- 1 0 0 7 b/d/eight-ch",
      "-rw-r--r-- 1 0 0 10 b/d/ninechars",
    ]);
  });
});
