import { createHash } from "node:crypto";
import { read as readCallback } from "node:fs";
import { open } from "node:fs/promises";
import { promisify } from "node:util";
import { handleSink, isZero } from "@leveret/block-source";
import * as z from "zod";
import { assertNotAborted } from "../internal/wait.ts";

const read = promisify(readCallback);

/** What is zero throughout is not stored, in blocks of so many `bytes`. */
const BLOCK_SIZE = 64 * 1024;
const CHUNK_SIZE = 64 * BLOCK_SIZE;

const size = z.number().int().nonnegative();

/** One file of a snapshot. */
export const partSchema = z.strictObject({
  /** size of the file, in `bytes` */
  sizeBytes: size,
  /** where something other than zeros is: offset and length in `bytes`, in order */
  runs: z.array(z.tuple([size, size])),
  /** SHA-256 of what is there, in order */
  sha256: z.string(),
});

/** One file of a snapshot. */
export type Part = z.output<typeof partSchema>;

/** Bytes that a part takes on a disk. */
export function storedBytes({ runs }: Part): number {
  return runs.reduce((sum, [, length]) => sum + length, 0);
}

/**
 * Copies an open file into a new one, without its zeros.
 *
 * @param descriptor - File to read from its beginning, whatever its position is.
 * @returns What was written; it is on the disk.
 */
export async function writePart(
  descriptor: number,
  sizeBytes: number,
  path: string,
  signal: AbortSignal | undefined,
): Promise<Part> {
  await using file = await open(path, "wx", 0o600);
  await file.truncate(sizeBytes);
  const sink = handleSink(file);
  const hash = createHash("sha256");
  const runs: [number, number][] = [];
  const chunk = Buffer.allocUnsafe(CHUNK_SIZE);
  for (let offset = 0; offset < sizeBytes; offset += CHUNK_SIZE) {
    assertNotAborted(signal);
    const bytes = chunk.subarray(0, await fill(descriptor, chunk, offset, Math.min(CHUNK_SIZE, sizeBytes - offset)));
    for (const [start, end] of dataIn(bytes)) {
      const data = bytes.subarray(start, end);
      hash.update(data);
      await sink.write(offset + start, data);
      addRun(runs, offset + start, end - start);
    }
  }
  await file.sync();
  return { sizeBytes, runs, sha256: hash.digest("hex") };
}

/** SHA-256 of what an open file has where {@link writePart} wrote; empty for one that ends before. */
export async function digestOfPart(descriptor: number, part: Part, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(CHUNK_SIZE);
  for (const [start, length] of part.runs) {
    for (let done = 0; done < length; ) {
      assertNotAborted(signal);
      const count = await fill(descriptor, chunk, start + done, Math.min(CHUNK_SIZE, length - done));
      if (count === 0) return "";
      hash.update(chunk.subarray(0, count));
      done += count;
    }
  }
  return hash.digest("hex");
}

/** Reads at a place until `length` bytes are there or the file ends. */
async function fill(descriptor: number, into: Uint8Array, offset: number, length: number): Promise<number> {
  let done = 0;
  while (done < length) {
    const { bytesRead } = await read(descriptor, into, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Where bytes are not zero, in whole blocks. */
function* dataIn(bytes: Uint8Array): Generator<[number, number]> {
  let start = -1;
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE) {
    const zero = isZero(bytes, at, Math.min(bytes.length, at + BLOCK_SIZE));
    if (!zero && start < 0) start = at;
    if (zero && start >= 0) {
      yield [start, at];
      start = -1;
    }
  }
  if (start >= 0) yield [start, bytes.length];
}

function addRun(runs: [number, number][], offset: number, length: number): void {
  const last = runs.at(-1);
  if (last !== undefined && last[0] + last[1] === offset) last[1] += length;
  else runs.push([offset, length]);
}
