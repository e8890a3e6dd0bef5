import { chmod, mkdtemp, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ioErrors, syncDirectory } from "@leveret/block-source";
import { UkiSignError } from "../errors.ts";
import { reportFileError } from "./file-errors.ts";

const ioError = ioErrors(reportFileError);

/** A file of a directory that is made. */
export interface NewFile {
  readonly name: string;
  readonly content: string | Uint8Array;
  /** permission bits */
  readonly mode: number;
}

/**
 * Makes a directory (mode 0700) with files, which appears whole or not at all: written beside, flushed, renamed. The
 * rename fails over anything but nothing or an empty directory.
 *
 * @param make - Makes the files, once it is known that there is a place for them.
 */
export async function writeNewDirectory(
  target: string,
  signal: AbortSignal | undefined,
  make: () => Promise<readonly NewFile[]>,
): Promise<void> {
  let beside: string | undefined;
  try {
    signal?.throwIfAborted();
    await requireNothingAt(target);
    beside = await mkdtemp(join(dirname(target), `.${basename(target)}.`));
    await chmod(beside, 0o700);
    for (const { name, content, mode } of await make()) await writeNew(join(beside, name), content, mode);
    await syncDirectory(beside);
    signal?.throwIfAborted();
    await rename(beside, target);
    await syncDirectory(dirname(target));
  } catch (cause) {
    if (beside !== undefined) await rm(beside, { recursive: true, force: true });
    throw signal?.aborted ? cause : writeError(target, cause);
  }
}

/** Says early what the rename at the end would refuse anyway. */
async function requireNothingAt(target: string): Promise<void> {
  const entries = await readdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  if (entries.length > 0) throw keysExist(target);
}

async function writeNew(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const file = await open(path, "wx", mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

function keysExist(target: string): UkiSignError {
  const message = `expected nothing, or an empty directory, at ${target}, got something`;
  return new UkiSignError("UKI_SIGN_KEYS_EXIST", message, {
    path: target,
    hint: "keys are never overwritten; choose another directory, or move the old one away yourself",
  });
}

function writeError(target: string, cause: unknown): unknown {
  if (cause instanceof UkiSignError) return cause;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "ENOTEMPTY" || code === "EEXIST" || code === "ENOTDIR") return keysExist(target);
  return ioError(cause, "create", target);
}
