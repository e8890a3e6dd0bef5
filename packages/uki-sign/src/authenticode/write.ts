import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { ByteSink } from "@leveret/block-source";
import * as z from "zod";
import { type Bytes, eachChunk, sizeOf } from "../bytes/byte-source.ts";
import { atomic } from "../internal/files.ts";
import { parseOptions } from "../internal/options.ts";
import { decodePe, type PeImage } from "../pe/image.ts";
import { patchesOf, planTable, withSignature } from "./certificate-table.ts";
import { certificatePadding, contentSize, coveredRanges } from "./digest.ts";
import { makeSignature, type SignPeOptions, signPe, signPeSchema } from "./sign.ts";

/** Bytes that are read, hashed and written at a time. */
const CHUNK_BYTES = 512 * 1024;

/** Pieces in memory: one is hashed while the next is read and those before it are written. */
const BUFFERS = 4;

/** After how many bytes the disk is told to begin with them, so that little is left to wait for at the end. */
const FLUSH_BYTES = 16 * 1024 * 1024;

/** After how many bytes that are hashed at once others get their turn. */
const VISITED_BYTES = 16 * 1024 * 1024;

const optionsSchema = z.strictObject({
  sign: signPeSchema.optional(),
  mode: z.int().min(0).max(0o777).default(0o644),
  signal: z.instanceof(AbortSignal).optional(),
});

/** Options of {@link writePe}. */
export interface WritePeOptions {
  /** signs the image on its way to the file, as `signPe` does */
  readonly sign?: SignPeOptions | undefined;
  /** permission bits of a file that is new, before the umask; 0644 by default */
  readonly mode?: number | undefined;
  /** ends the work early, leaving nothing behind */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes an image to a file, signed if asked to, and never the whole image in memory: each piece is read once, hashed and
 * written. The file appears under its name when it is complete and on disk; until then what was there stays. Symbolic
 * links are followed, and a file that is replaced keeps its mode; what is no regular file is not replaced.
 *
 * @param path - File to write; may be the one that `image` reads from.
 * @param image - The image: bytes, an open file, or what `assembleUki` returned.
 * @param options - Whether to sign, and the file's mode.
 * @throws {UkiSignError} `UKI_SIGN_FILE` when the file cannot be written; what `signPe` throws.
 * @example
 * await using image = await fileSource("linux.efi");
 * await writePe("linux.signed.efi", image, { sign: { signer, certificate } });
 */
export async function writePe(path: string, image: Bytes, options: WritePeOptions = {}): Promise<void> {
  const { sign, mode, signal } = parseOptions(optionsSchema, options);
  const write = async (sink: ByteSink, file: FileHandle): Promise<void> => {
    if (sign === undefined) await copyContent({ sink, file }, image, sizeOf(image), signal);
    else await writeSigned({ sink, file }, image, sign, signal);
  };
  await atomic.write(resolve(path), write, { mode });
}

/** The file that is written: what takes bytes, and what flushes them. */
interface Output {
  readonly sink: ByteSink;
  readonly file: FileHandle;
}

async function writeSigned(
  output: Output,
  image: Bytes,
  sign: SignPeOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const decoded = decodePe(image);
  if (decoded.checksum !== 0) {
    // The checksum is over the signature too, so it takes a pass of its own; EFI images hardly ever have one.
    const signed = await signPe(image, sign);
    await copyContent(output, signed, sizeOf(signed), signal);
    return;
  }
  const { hash = "sha256" } = sign;
  const end = contentSize(decoded);
  const hasher = createHash(hash);
  const covered = new CoveredHash(hasher, decoded);
  await copyVisited(output, image, end, signal, (chunk, offset) => covered.update(chunk, offset));
  hasher.update(new Uint8Array(certificatePadding(end)));
  const cms = await makeSignature(new Uint8Array(hasher.digest()), sign);
  const plan = planTable(decoded, withSignature(image, decoded, cms));
  for (const { offset, bytes } of patchesOf(decoded, plan, new Uint8Array(4))) {
    if (bytes instanceof Uint8Array) await output.sink.write(offset, bytes);
  }
  await output.sink.write(plan.tableOffset, plan.table);
}

/** Hashes what a signature covers, out of all bytes in order. */
class CoveredHash {
  readonly #hasher: Hash;
  readonly #ranges: readonly [number, number][];

  constructor(hasher: Hash, decoded: PeImage) {
    this.#hasher = hasher;
    this.#ranges = coveredRanges(decoded);
  }

  update(chunk: Uint8Array, offset: number): void {
    for (const [start, end] of this.#ranges) {
      const from = Math.max(start, offset);
      const to = Math.min(end, offset + chunk.length);
      if (from < to) this.#hasher.update(chunk.subarray(from - offset, to - offset));
    }
  }
}

/** Copies bytes to the file and visits them; while the kernel copies, where it can, and else while they are on their way. */
async function copyVisited(
  output: Output,
  image: Bytes,
  end: number,
  signal: AbortSignal | undefined,
  visit: (chunk: Uint8Array, offset: number) => void,
): Promise<void> {
  const copying = image instanceof Uint8Array ? undefined : image.copyTo?.(output.file);
  if (copying === undefined) {
    await copyContent(output, image, end, signal, visit);
    return;
  }
  // Reported when it is waited for.
  copying.catch(() => {});
  try {
    for (let start = 0; start < end; start += VISITED_BYTES) {
      // Others get their turn, and who calls it off.
      await setImmediate();
      signal?.throwIfAborted();
      let offset = start;
      eachChunk(image, start, Math.min(end, start + VISITED_BYTES), (chunk) => {
        visit(chunk, offset);
        offset += chunk.length;
      });
    }
  } finally {
    // Nothing uses the files any more, whatever happened.
    await Promise.allSettled([copying]);
  }
  const isCopied = await copying;
  // Without what comes behind it, or whatever else is there.
  await output.file.truncate(isCopied ? end : 0);
  if (!isCopied) await copyContent(output, image, end, signal);
}

/** Copies bytes to the file; while one piece is visited, it is written and the next one read. */
async function copyContent(
  { sink, file }: Output,
  image: Bytes,
  end: number,
  signal: AbortSignal | undefined,
  visit: (chunk: Uint8Array, offset: number) => void = () => {},
): Promise<void> {
  const read = chunkReader(image, end);
  const writing: Promise<void>[] = [];
  let flushing: Promise<void> | undefined;
  let flushed = 0;
  let ahead = read(0, 0);
  try {
    for (let offset = 0, index = 0; offset < end; offset += CHUNK_BYTES, index++) {
      const chunk = await ahead;
      signal?.throwIfAborted();
      const write = sink.write(offset, chunk);
      writing[index % BUFFERS] = write;
      // Failures are reported when they are waited for.
      write.catch(() => {});
      const next = (index + 1) % BUFFERS;
      await writing[next];
      if (offset + CHUNK_BYTES < end) ahead = read(next, offset + CHUNK_BYTES);
      ahead.catch(() => {});
      visit(chunk, offset);
      if (flushing === undefined && offset - flushed >= FLUSH_BYTES) {
        flushed = offset;
        // Beside what goes on; the flush at the end is the one that counts, and fails if this one does.
        flushing = file
          .datasync()
          .catch(() => {})
          .finally(() => {
            flushing = undefined;
          });
      }
    }
    await Promise.all(writing);
  } finally {
    // Nothing uses the files and buffers any more, whatever happened.
    await Promise.allSettled([ahead, ...writing, flushing]);
  }
}

/** Reads the piece at an offset into a buffer by its number; nothing beyond the end, and no copy of what is in memory. */
function chunkReader(image: Bytes, end: number): (buffer: number, offset: number) => Promise<Uint8Array> {
  const sizeAt = (offset: number): number => Math.max(0, Math.min(CHUNK_BYTES, end - offset));
  if (image instanceof Uint8Array) return async (_, offset) => image.subarray(offset, offset + sizeAt(offset));
  const buffers = Array.from({ length: BUFFERS }, () => new Uint8Array(sizeAt(0)));
  return async (index, offset) => {
    const chunk = buffers[index]?.subarray(0, sizeAt(offset)) ?? new Uint8Array();
    if (image.readInto === undefined) image.readIntoSync(chunk, offset);
    else await image.readInto(chunk, offset);
    return chunk;
  };
}
