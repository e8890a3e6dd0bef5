import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { CommandIo } from "@leveret/command";
import { onTestFinished, type TestContext } from "vitest";

/** Debian packages the tests' foreign tools come from. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  "mkfs.erofs": "erofs-utils",
  "dump.erofs": "erofs-utils",
  "fsck.erofs": "erofs-utils",
  busybox: "busybox-static",
  cpio: "cpio",
  "qemu-system-x86_64": "qemu-system-x86",
  xz: "xz-utils",
  veritysetup: "cryptsetup-bin",
  fsverity: "fsverity",
  getfattr: "attr",
  setfattr: "attr",
  tar: "tar",
};

/** Skips the test with a reason when a foreign tool is missing; with `REQUIRE_ORACLES=1` it fails instead. */
export function needs(context: TestContext, ...tools: string[]): void {
  const missing = tools.filter((tool) => !isInstalled(tool));
  if (missing.length === 0) return;
  const reason = missing
    .map((tool) => `${tool} is not installed (Debian package ${PACKAGE_OF[tool] ?? "unknown"})`)
    .join(", ");
  if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
  context.skip(reason);
}

function isInstalled(tool: string): boolean {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Runs a foreign tool and returns what it printed; fails the test when it fails. */
export function run(tool: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = tryRun(tool, ...args);
  if (status !== 0) throw new Error(`${tool} ${args.join(" ")}: ${error?.message ?? stdout + stderr}`);
  return stdout;
}

/** Runs a foreign tool that may fail. */
export function tryRun(
  tool: string,
  ...args: string[]
): ReturnType<typeof spawnSync> & { stdout: string; stderr: string } {
  const path = `${process.env.PATH ?? ""}${delimiter}/usr/sbin${delimiter}/sbin`;
  return spawnSync(tool, args, { encoding: "utf8", env: { ...process.env, PATH: path, LC_ALL: "C.UTF-8" } });
}

/** Makes a folder that is removed when the test ends. */
export async function scratch(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "erofs-meta-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Streams that remember what was written. */
export function capture(cwd = "/"): { io: CommandIo; out: () => string; err: () => string } {
  const stream = (): { text: () => string; write: (piece: unknown) => boolean; columns: number } => {
    const pieces: string[] = [];
    return {
      text: () => pieces.join(""),
      write(piece) {
        pieces.push(typeof piece === "string" ? piece : new TextDecoder().decode(piece as Uint8Array));
        return true;
      },
      columns: 100,
    };
  };
  const stdout = stream();
  const stderr = stream();
  const io: CommandIo = { stdout, stderr, env: {}, cwd, signal: new AbortController().signal };
  return { io, out: stdout.text, err: stderr.text };
}

/** Bytes that look random and are the same every time. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let index = 0; index < length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
