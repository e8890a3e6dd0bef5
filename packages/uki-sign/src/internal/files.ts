import { type AtomicFiles, atomicFiles, type ReadWhole, wholeFiles } from "@leveret/block-source";
import { reportFileError } from "./file-errors.ts";

/** Writes files whole or not at all. */
export const atomic: AtomicFiles = atomicFiles(reportFileError);

/** Longest passphrase, PIN or token that is read, in bytes. */
const MAX_SECRET_BYTES = 64 * 1024;

/** Reads a file, a FIFO or an open descriptor to its end. */
export const readWhole: ReadWhole = wholeFiles(reportFileError);

/** Reads a passphrase or PIN from a file or an open descriptor; the newline at its end is no part of it. */
export async function readSecret(path: string, signal: AbortSignal | undefined): Promise<string> {
  const bytes = await readWhole(path, { maxBytes: MAX_SECRET_BYTES, signal });
  return Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}
