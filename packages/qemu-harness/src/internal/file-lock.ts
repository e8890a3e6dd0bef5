import { closeSync, fstat, openSync, rmSync, stat } from "node:fs";
import { promisify } from "node:util";
import { lockOpenFile } from "@leveret/block-source";
import { QemuError } from "../errors.ts";
import { assertNotAborted } from "./wait.ts";

/** A lock that this process holds; the kernel takes it back when the process ends, however it ends. */
export interface FileLock {
  /** Lets others have it. Idempotent. */
  readonly release: () => void;
}

/**
 * Waits until no other process, and nobody else in this one, holds a lock of this name, and holds it.
 *
 * @param path - File that stands for the lock, made when missing and removed when nobody waits any more.
 * @throws {QemuError} `QEMU_TOOL_NOT_FOUND`, `QEMU_ABORTED`.
 * @see flock(2)
 */
export async function lockFile(
  path: string,
  {
    env,
    signal,
  }: { readonly env: Readonly<Record<string, string | undefined>>; readonly signal?: AbortSignal | undefined },
): Promise<FileLock> {
  for (;;) {
    assertNotAborted(signal);
    const descriptor = openLock(path);
    try {
      await take(descriptor, env, signal);
      if (await isAt(descriptor, path)) return held(descriptor, path);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
    // Whoever held it has removed it meanwhile: others would not see this lock.
    closeSync(descriptor);
  }
}

function openLock(path: string): number {
  try {
    return openSync(path, "a", 0o600);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_FILE", `expected a file to lock at ${path}, got: ${reason}`, { path, cause });
  }
}

async function take(
  descriptor: number,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await lockOpenFile(descriptor, { wait: true, env, signal });
  } catch (error) {
    assertNotAborted(signal);
    const cause = error as NodeJS.ErrnoException;
    if (cause.code === "ENOENT") {
      throw new QemuError("QEMU_TOOL_NOT_FOUND", "expected the program flock in PATH, got none", {
        hint: "it is part of util-linux (Debian: apt install util-linux)",
        cause,
      });
    }
    throw new QemuError("QEMU_FILE", `expected to lock a file, got: ${cause.message}`, { cause });
  }
}

async function isAt(descriptor: number, path: string): Promise<boolean> {
  const [own, found] = await Promise.all([promisify(fstat)(descriptor), promisify(stat)(path).catch(() => undefined)]);
  return found !== undefined && found.dev === own.dev && found.ino === own.ino;
}

function held(descriptor: number, path: string): FileLock {
  let released = false;
  return {
    release() {
      if (released) return;
      released = true;
      rmSync(path, { force: true });
      closeSync(descriptor);
    },
  };
}
