import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { open, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { noise, run, scratch } from "./support.ts";
import { tarOf } from "./tar.ts";

const BIN = fileURLToPath(new URL("../bin/erofs-meta.js", import.meta.url));

function erofsMeta(cwd: string, ...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [BIN, ...argv], {
    cwd,
    encoding: "utf8",
    env: { ...process.env, COLUMNS: "100" },
  });
}

/** A file of zeros that takes no room. */
async function sparseFile(path: string, sizeBytes: number): Promise<void> {
  const handle = await open(path, "w");
  await handle.truncate(sizeBytes);
  await handle.close();
}

describe("the built command", () => {
  test("explains itself", () => {
    const { status, stdout } = erofsMeta("/", "--help");
    expect(status).toBe(0);
    expect(stdout).toMatchSnapshot();
  });

  test.each([[["ls"]], [["ls", "x", "--offset", "-1"]], [["verity", "verify", "a", "b", "xyz"]], [["nonsense"]]])(
    "returns 2 for the wrong usage %j",
    (argv) => {
      expect(erofsMeta("/", ...argv).status).toBe(2);
    },
  );

  test("hashes in worker threads as it does without", async () => {
    const folder = await scratch();
    await sparseFile(join(folder, "data"), 40 * 1024 * 1024);
    const hashes = ["0", "2"].map((workers) => {
      const options = [
        "--salt",
        "00",
        "--uuid",
        "00112233-4455-6677-8899-aabbccddeeff",
        "--workers",
        workers,
        "--json",
      ];
      const { stdout } = erofsMeta(folder, "verity", "build", "data", "tree", ...options);
      return (JSON.parse(stdout) as { rootHash: string }).rootHash;
    });
    expect(hashes[1]).toBe(hashes[0]);
  });

  test("ends on SIGINT with 130, no thread left and nothing written", async () => {
    const folder = await scratch();
    await sparseFile(join(folder, "data"), 8 * 1024 * 1024 * 1024);
    const child = spawn(process.execPath, [BIN, "verity", "build", "data", "tree", "--workers", "2"], { cwd: folder });
    const exit = once(child, "exit");
    // The file beside the tree is there once hashing has begun.
    while (child.exitCode === null && (await readdir(folder)).length < 2) await sleep(20);
    child.kill("SIGINT");
    expect(await exit).toEqual([130, null]);
    expect(await readdir(folder)).toEqual(["data"]);
  });

  test("takes an archive from a FIFO, and ends on SIGTERM with 143 while it waits for one", async () => {
    const folder = await scratch();
    const fifo = join(folder, "fifo");
    run("mkfifo", fifo);
    const args = [BIN, "build", "image", fifo];
    const build = (): ChildProcess => spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    const waiting = build();
    const ended = once(waiting, "exit");
    while (waiting.exitCode === null && (await readdir(folder)).length < 2) await sleep(20);
    waiting.kill("SIGTERM");
    expect(await ended).toEqual([143, null]);
    expect(await readdir(folder)).toEqual(["fifo"]);
    const reading = build();
    const done = once(reading, "exit");
    await writeFile(fifo, tarOf([{ name: "file", content: noise(300_000) }]));
    expect(await done).toEqual([0, null]);
    expect(erofsMeta(folder, "ls", "image").stdout).toBe("file\n");
  });

  test("told to write more than it may, leaves a typed error and nothing else", async () => {
    const folder = await scratch();
    await sparseFile(join(folder, "data"), 16 * 1024 * 1024);
    const limited = [
      "-c",
      'ulimit -f 64; exec "$@"',
      "limited",
      process.execPath,
      BIN,
      "verity",
      "build",
      "data",
      "tree",
    ];
    const { status, stderr } = spawnSync("bash", limited, { cwd: folder, encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain("EROFS_DISK_FULL");
    expect(await readdir(folder)).toEqual(["data"]);
  });
});
