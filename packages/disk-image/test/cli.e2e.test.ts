import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
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

  test("never takes an input for its output, nor a device", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "data"), noise(MIB));
    const description = JSON.stringify({ seed: "s", partitions: [{ label: "x", type: "var", file: "data" }] });
    await writeFile(join(folder, "os.json"), description);
    expect(diskImage(folder, "create", "os.json", "os.raw").status).toBe(0);
    for (const argv of [
      ["create", "os.json", "os.json"],
      ["create", "os.json", "data"],
      ["extract", "os.raw", "x", "./os.raw"],
      ["create", "os.json", "/dev/full"],
    ]) {
      const before = await readFile(join(folder, "os.raw"));
      const { status, stderr } = diskImage(folder, ...argv);
      expect([status, stderr], argv.join(" ")).toEqual([1, expect.stringMatching(/DISK_BAD_OPTIONS|DISK_WRONG_TYPE/)]);
      expect(before.equals(await readFile(join(folder, "os.raw")))).toBe(true);
    }
    expect(await readFile(join(folder, "os.json"), "utf8")).toBe(description);
  });

  test("reads a description that comes through a pipe, up to a limit", async () => {
    const folder = await scratch();
    const description = JSON.stringify({ seed: "s", partitions: [{ label: "x", type: "var", size: "1M" }] });
    const piped = { cwd: folder, input: description, encoding: "utf8" } as const;
    expect(spawnSync(process.execPath, [BIN, "create", "/dev/stdin", "os.raw"], piped).status).toBe(0);
    expect(diskImage(folder, "create", "/dev/zero", "os.raw").stderr).toContain("DISK_LIMIT");
  });

  test("says what became of its output: nobody reads it, no room for it", async () => {
    const folder = await scratch();
    const partitions = Array.from({ length: 100 }, (_, index) => ({ label: `p${index}`, type: "var", size: "1M" }));
    await writeFile(join(folder, "os.json"), JSON.stringify({ seed: "s", partitions }));
    expect(diskImage(folder, "create", "os.json", "os.raw").status).toBe(0);
    const shell = (script: string) =>
      spawnSync("bash", ["-c", script, "sh", process.execPath, BIN], { cwd: folder, encoding: "utf8" });
    const unread = shell('set -o pipefail; "$1" "$2" inspect os.raw --json | true');
    expect([unread.status, unread.stderr]).toEqual([141, ""]);
    const full = shell('"$1" "$2" inspect os.raw > /dev/full');
    expect([full.status, full.stderr]).toEqual([
      1,
      "cannot write to standard output: ENOSPC: no space left on device, write\n",
    ]);
  });
});
