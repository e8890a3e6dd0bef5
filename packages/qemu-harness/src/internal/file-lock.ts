import { spawn } from "node:child_process";
import { closeSync, fstat, openSync, rmSync, stat } from "node:fs";
import { promisify } from "node:util";
import { QemuError } from "../errors.ts";
import { findProgram } from "../qemu.ts";
import { assertNotAborted } from "./wait.ts";

/** A lock that this process holds; the kernel takes it back when the process ends, however it ends. */
export interface FileLock {
  /** Lets others have it. Idempotent. */
  readonly release: () => void;
}

/**
 * Waits until no other process, and nobody else in this one, holds a lock of this name, and holds it.
 *
 * Node cannot lock files, but a lock belongs to an open file and not to a process: flock(1) locks the one it inherits
 * and ends, and this process keeps it.
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
  const program = await findProgram("flock", env);
  if (program === undefined) {
    throw new QemuError("QEMU_TOOL_NOT_FOUND", "expected the program flock in PATH, got none", {
      hint: "it is part of util-linux (Debian: apt install util-linux)",
    });
  }
  for (;;) {
    assertNotAborted(signal);
    const descriptor = openLock(path);
    try {
      await take(program, descriptor, signal);
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

async function take(program: string, descriptor: number, signal: AbortSignal | undefined): Promise<void> {
  const child = spawn(program, ["--exclusive", "3"], { stdio: ["ignore", "ignore", "ignore", descriptor] });
  const abort = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", abort, { once: true });
  const [code, cause] = await new Promise<[number | null, Error?]>((resolve) => {
    child.once("exit", (code) => resolve([code]));
    child.once("error", (error) => resolve([null, error]));
  });
  signal?.removeEventListener("abort", abort);
  assertNotAborted(signal);
  if (code !== 0) throw new QemuError("QEMU_FILE", `expected flock to lock a file, got exit code ${code}`, { cause });
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
