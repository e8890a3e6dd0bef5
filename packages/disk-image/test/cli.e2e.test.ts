import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { noise, scratch } from "./support.ts";

const BIN = fileURLToPath(new URL("../bin/disk-image.js", import.meta.url));
const MIB = 1024 * 1024;

function diskImage(cwd: string, ...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [BIN, ...argv], {
    cwd,
    encoding: "utf8",
    env: { ...process.env, COLUMNS: "100" },
  });
}

describe("the built command", () => {
  test.each([[["--help"]], [["create", "--help"]], [["replace", "--help"]], [["repair", "--help"]]])(
    "explains itself: %j",
    (argv) => {
      const { status, stdout } = diskImage("/", ...argv);
      expect(status).toBe(0);
      expect(stdout).toMatchSnapshot();
    },
  );

  test.each([
    [["create"]],
    [["inspect", "a", "b"]],
    [["extract", "a"]],
    [["nonsense"]],
    [["inspect", "a", "--colour"]],
  ])("returns 2 for the wrong usage %j", (argv) => {
    expect(diskImage("/", ...argv).status).toBe(2);
  });

  test("ends on SIGINT with 130 and nothing written", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "data"), noise(64 * MIB));
    const partitions = Array.from({ length: 40 }, (_, index) => ({ label: `p${index}`, type: "var", file: "data" }));
    await writeFile(join(folder, "os.json"), JSON.stringify({ seed: "s", partitions }));
    const child = spawn(process.execPath, [BIN, "create", "os.json", "os.raw"], { cwd: folder });
    const exit = once(child, "exit");
    // The file beside the image is there once writing has begun.
    while (child.exitCode === null && (await readdir(folder)).length < 3) await sleep(10);
    child.kill("SIGINT");
    expect(await exit).toEqual([130, null]);
    expect((await readdir(folder)).sort()).toEqual(["data", "os.json"]);
  });

  test("told to write more than it may, leaves a typed error and nothing else", async () => {
    const folder = await scratch();
    const partitions = [{ label: "x", type: "var", size: "16M" }];
    await writeFile(join(folder, "os.json"), JSON.stringify({ seed: "s", partitions }));
    const limited = ["-c", 'ulimit -f 64; exec "$@"', "limited", process.execPath, BIN, "create", "os.json", "os.raw"];
    const { status, stderr } = spawnSync("bash", limited, { cwd: folder, encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain("DISK_FULL");
    expect(await readdir(folder)).toEqual(["os.json"]);
  });
});
