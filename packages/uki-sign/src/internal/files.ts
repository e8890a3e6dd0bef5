import { randomBytes } from "node:crypto";
import { readFile as readFileOrDescriptor } from "node:fs";
import { type FileHandle, open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { type FileSource, fileSource } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";

/** Reads a whole file named on a command line. */
export async function readInput(cwd: string, path: string): Promise<Uint8Array> {
  try {
    return await readFile(resolve(cwd, path));
  } catch (cause) {
    throw fileError("a readable file", path, cause);
  }
}

/** Opens a file named on a command line, to be read where it is needed. */
export async function openInput(cwd: string, path: string): Promise<FileSource> {
  return await fileSource(resolve(cwd, path));
}

/** Files that are open together, until a command has done its work. */
export class OpenInputs implements AsyncDisposable {
  readonly #cwd: string;
  readonly #files: FileSource[] = [];

  constructor(cwd: string) {
    this.#cwd = cwd;
  }

  async open(path: string): Promise<FileSource> {
    const file = await openInput(this.#cwd, path);
    this.#files.push(file);
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }
}

/** Reads an open descriptor to its end; unlike its name below `/dev/fd`, it may be a socket. */
async function readDescriptor(descriptor: number): Promise<Uint8Array> {
  try {
    return await promisify(readFileOrDescriptor)(descriptor);
  } catch (cause) {
    throw fileError("a readable descriptor", `/dev/fd/${descriptor}`, cause);
  }
}

/** Reads a passphrase or PIN from a file or an open descriptor; the newline at its end is no part of it. */
export async function readSecret(cwd: string, path: string): Promise<string> {
  const [, descriptor] = /^\/dev\/fd\/(\d{1,9})$/.exec(path) ?? [];
  const bytes = descriptor === undefined ? await readInput(cwd, path) : await readDescriptor(Number(descriptor));
  return Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

/** Replaces `path` with `bytes`, as {@link replaceFile} does. */
export async function writeOutput(cwd: string, path: string, bytes: Uint8Array): Promise<void> {
  await replaceFile(resolve(cwd, path), 0o644, (file) => file.writeFile(bytes));
}

/**
 * Replaces a file: written beside, flushed, renamed, so that nothing half-written is ever seen under the final name.
 *
 * @param path - absolute
 * @param mode - Permission bits of the new file, before the umask.
 * @param fill - Writes the content. Only what the system says about files is reported as a fault of the file.
 */
export async function replaceFile(
  path: string,
  mode: number,
  fill: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const beside = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}`);
  try {
    const file = await open(beside, "wx", mode);
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (cause) {
    await rm(beside, { force: true });
    if (!(cause instanceof Error) || !("syscall" in cause)) throw cause;
    throw fileError("a writable file", path, cause);
  }
}

function fileError(expected: string, path: string, cause: unknown): UkiSignError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new UkiSignError("UKI_SIGN_FILE", `expected ${expected}, got ${reason}`, { path, cause });
}
