import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { encodeCpio } from "../src/index.ts";

const FILES = ["a", "b/c", "b/d/eight-ch", "b/d/ninechars"].map((path, index) => ({
  path,
  data: Buffer.alloc(index * 3 + 1, path),
  executable: path === "a",
}));
const EPOCH_SECONDS = 1_700_000_000;

describe.each([
  ["cpio", "cpio", ["--extract", "--quiet", "--preserve-modification-time"], ["-itv", "--quiet", "--numeric-uid-gid"]],
  ["bsdcpio", "libarchive-tools", ["-i", "-m"], ["-itv", "-n"]],
])("%s", (tool, debianPackage, extract, list) => {
  test("reads what was written", (context) => {
    if (spawnSync(tool, ["--version"]).status !== 0) {
      const reason = `not installed: ${tool} (Debian package ${debianPackage})`;
      if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
      context.skip(reason);
    }
    const directory = mkdtempSync(join(tmpdir(), "qemu-harness-cpio-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const input = encodeCpio(FILES, EPOCH_SECONDS);
    execFileSync(tool, extract, { cwd: directory, input });
    for (const { path, data } of FILES) expect(readFileSync(join(directory, path))).toEqual(data);
    const env = { ...process.env, LC_ALL: "C.UTF-8", TZ: "UTC0" };
    const lines = execFileSync(tool, list, { input, env, encoding: "utf8" }).trim().split("\n");
    const entries = lines.map((line) => line.replace(/ +/g, " ").replace(/ Nov 14 2023 /, " "));
    expect(entries).toEqual([
      "drwxr-xr-x 2 0 0 0 b",
      "drwxr-xr-x 2 0 0 0 b/d",
      "-rwxr-xr-x 1 0 0 1 a",
      "-rw-r--r-- 1 0 0 4 b/c",
      "-rw-r--r-- 1 0 0 7 b/d/eight-ch",
      "-rw-r--r-- 1 0 0 10 b/d/ninechars",
    ]);
  });
});
