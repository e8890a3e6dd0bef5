import { createHash } from "node:crypto";
import { type BigIntStats, createReadStream } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { cacheDirectory } from "../internal/cache-directory.ts";
import { assertNotAborted } from "../internal/wait.ts";
import { fileError, writeAtomically } from "./files.ts";

/** What a digest may be remembered for. */
interface DigestOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
}

/** Smaller files are read again by each process, which takes less than looking them up. In `bytes`. */
const WORTH_REMEMBERING = 1024 * 1024;
const MAX_REMEMBERED = 256;
/** A file that has changed so short ago may change again with the same time stamp. In `milliseconds`. */
const SETTLED_MS = 2000;
const READ_SIZE = 1024 * 1024;

const rememberedSchema = z.array(z.tuple([z.string(), z.string()]));

const known = new Map<string, string>();

/**
 * SHA-256 of a file in hexadecimal. Remembered for as long as the file is the same one, of the same size, and has not
 * been changed, by this process and, for large files, in the user's cache directory.
 *
 * @throws {QemuError} `QEMU_FILE`, `QEMU_ABORTED`.
 */
export async function digestOf(path: string, options: DigestOptions): Promise<string> {
  try {
    return await factOf(await stat(path, { bigint: true }), "", () => readAll(path, options.signal), options);
  } catch (error) {
    assertNotAborted(options.signal);
    throw fileError(error, "read", path);
  }
}

/**
 * A fact that follows from a file's content, which is remembered as the digest of {@link digestOf} is.
 *
 * @param found - State of the file.
 * @param kind - What tells this fact from others of the same file; empty for the digest of all of it.
 * @param read - Finds it out.
 */
export async function factOf(
  found: BigIntStats,
  kind: string,
  read: () => Promise<string>,
  options: DigestOptions,
): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = found;
  const identity = [dev, ino, size, mtimeNs, ctimeNs, ...(kind === "" ? [] : [kind])].join(" ");
  // A device does not say when its content changes.
  const settled = found.isFile() && BigInt(Date.now()) - ctimeMs > SETTLED_MS;
  if (!settled) return read();
  const before = known.get(identity);
  if (before !== undefined) return before;
  const fact = await (size >= WORTH_REMEMBERING ? remembered(identity, read, options) : read());
  known.set(identity, fact);
  return fact;
}

async function readAll(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha256");
  const stream = createReadStream(path, { highWaterMark: READ_SIZE, ...(signal === undefined ? {} : { signal }) });
  for await (const chunk of stream as AsyncIterable<Uint8Array>) hash.update(chunk);
  return hash.digest("hex");
}

async function remembered(identity: string, read: () => Promise<string>, { env }: DigestOptions): Promise<string> {
  const directory = cacheDirectory(env);
  if (directory === undefined) return read();
  const list = join(directory, "qemu-digests.json");
  const found = (await readList(list)).get(identity);
  if (found !== undefined) return found;
  const fact = await read();
  const entries = [...(await readList(list)), [identity, fact] as const].slice(-MAX_REMEMBERED);
  await mkdir(dirname(list), { recursive: true })
    .then(() => writeAtomically(list, (sink) => sink.write(0, Buffer.from(JSON.stringify(entries))), { mode: 0o600 }))
    // What cannot be remembered is read again.
    .catch(() => {});
  return fact;
}

async function readList(path: string): Promise<Map<string, string>> {
  try {
    return new Map(rememberedSchema.parse(JSON.parse(await readFile(path, "utf8"))));
  } catch {
    return new Map();
  }
}
