import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { NixGenError } from "../errors.ts";
import { reasonOf } from "./text.ts";

/**
 * Writes a file so that it is there whole or not at all: beside its place, flushed, then renamed. Its directory is
 * created.
 */
export async function writeWhole(path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
  const beside = besideOf(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(beside, "wx", mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (cause) {
    // Where a part of the path is no directory, this fails too.
    await rm(beside, { force: true }).catch(() => undefined);
    throw fileError(path, cause);
  }
}

/** A path beside `path` at which nothing is, for what is to be renamed to it. */
export function besideOf(path: string): string {
  return `${path}.${randomBytes(4).toString("hex")}.new`;
}

/** The error for a file that can't be written. */
export function fileError(path: string, cause: unknown): NixGenError {
  if (cause instanceof NixGenError) return cause;
  const reason = reasonOf(cause);
  if (reason === "ENOSPC" || reason === "EDQUOT") {
    return new NixGenError("NIX_GEN_DISK_FULL", `expected room on the disk, got ${reason}`, { path, cause });
  }
  return new NixGenError("NIX_GEN_IO", `expected to write a file, got ${reason}`, { path, cause });
}
