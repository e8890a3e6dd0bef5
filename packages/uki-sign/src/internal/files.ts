import type { FileHandle } from "node:fs/promises";
import { atomicFiles, type ReadWhole, wholeFiles } from "@leveret/block-source";
import { reportFileError } from "./file-errors.ts";

const atomic = atomicFiles(reportFileError);

/** Longest passphrase, PIN or token that is read, in bytes. */
const MAX_SECRET_BYTES = 64 * 1024;

/** Reads a file, a FIFO or an open descriptor to its end. */
export const readWhole: ReadWhole = wholeFiles(reportFileError);

/** Refuses an output that is one of the inputs, by whatever name. */
export const assertNoInput: (output: string, inputs: readonly string[]) => Promise<void> = atomic.assertNoInput;

/** Reads a passphrase or PIN from a file or an open descriptor; the newline at its end is no part of it. */
export async function readSecret(path: string, signal: AbortSignal | undefined): Promise<string> {
  const bytes = await readWhole(path, { maxBytes: MAX_SECRET_BYTES, signal });
  return Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

/**
 * Replaces a file: written beside, flushed, renamed, so that nothing half-written is ever seen under the final name.
 *
 * @param path - absolute
 * @param mode - Permission bits of a new file, before the umask.
 * @param fill - Writes the content.
 */
export async function replaceFile(
  path: string,
  mode: number,
  fill: (file: FileHandle) => Promise<void>,
): Promise<void> {
  await atomic.write(path, (_sink, file) => fill(file), { mode });
}
