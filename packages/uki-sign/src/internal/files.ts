import { randomBytes } from "node:crypto";
import { readFile as readFileOrDescriptor } from "node:fs";
import { open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { UkiSignError } from "../errors.ts";

/** Reads a whole file named on a command line. */
export async function readInput(cwd: string, path: string): Promise<Uint8Array> {
  try {
    return await readFile(resolve(cwd, path));
  } catch (cause) {
    throw fileError("a readable file", path, cause);
  }
}

/** Reads an open descriptor to its end; unlike its name below `/dev/fd`, it may be a socket. */
export async function readDescriptor(descriptor: number): Promise<Uint8Array> {
  try {
    return await promisify(readFileOrDescriptor)(descriptor);
  } catch (cause) {
    throw fileError("a readable descriptor", `/dev/fd/${descriptor}`, cause);
  }
}

/**
 * Replaces `path` with `bytes`: written beside, flushed, renamed, so that nothing half-written is ever seen under the
 * final name.
 *
 * @param mode - Permission bits of the new file; private keys take `0o600`.
 */
export async function writeOutput(cwd: string, path: string, bytes: Uint8Array, mode = 0o644): Promise<void> {
  const target = resolve(cwd, path);
  const beside = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString("hex")}`);
  try {
    const file = await open(beside, "wx", mode);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, target);
  } catch (cause) {
    await rm(beside, { force: true });
    throw fileError("a writable file", path, cause);
  }
}

function fileError(expected: string, path: string, cause: unknown): UkiSignError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new UkiSignError("UKI_SIGN_FILE", `expected ${expected}, got ${reason}`, { path, cause });
}
