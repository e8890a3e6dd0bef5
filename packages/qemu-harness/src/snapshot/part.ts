import { createHash } from "node:crypto";
import { fstatSync, read as readCallback } from "node:fs";
import { open } from "node:fs/promises";
import { promisify } from "node:util";
import { handleSink } from "@leveret/block-source";
import * as z from "zod";
import { addRun, BLOCK_SIZE, dataIn, type Run } from "../internal/runs.ts";
import { assertNotAborted } from "../internal/wait.ts";

const read = promisify(readCallback);

const CHUNK_SIZE = 64 * BLOCK_SIZE;

const size = z.number().int().nonnegative();
/** where something other than zeros is: offset and length in `bytes`, in order */
const runs = z.array(z.tuple([size, size]));

/** One file of a snapshot. */
export const partSchema = z.strictObject({
  /** size of the file, in `bytes` */
  sizeBytes: size,
  runs,
  /** SHA-256 of what is there, in order */
  sha256: z.string(),
});

/** One file of a snapshot. */
export type Part = z.output<typeof partSchema>;

/** One file that a process has open, instead of one of a snapshot. */
export const lentSchema = z.strictObject({
  sizeBytes: size,
  runs,
  /** where it is for as long as that process has it open: `/proc/PID/fd/N` */
  at: z.string().regex(/^\/proc\/\d+\/fd\/\d+$/),
  /** which it is, because another process may have that number later: device and inode */
  inode: z.string(),
});

/** One file that a process has open. */
export type LentPart = z.output<typeof lentSchema>;

/** Bytes that a part takes on a disk. */
export function storedBytes(part: Part | LentPart): number {
  return "at" in part ? 0 : part.runs.reduce((sum, [, length]) => sum + length, 0);
}

/** What tells an open file from all others. */
export function inodeOf({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev} ${ino}`;
}

/** An open file of this process, for others. @param data - Where something other than zeros is; anywhere unless given. */
export function lendPart(descriptor: number, data?: readonly Run[]): LentPart {
  const found = fstatSync(descriptor, { bigint: true });
  const sizeBytes = Number(found.size);
  const runs = (data ?? [[0, sizeBytes]]).map(([offset, length]): [number, number] => [offset, length]);
  return { sizeBytes, runs, at: `/proc/${process.pid}/fd/${descriptor}`, inode: inodeOf(found) };
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
    for (const [start, length] of dataIn(bytes)) {
      const data = bytes.subarray(start, start + length);
      hash.update(data);
      await sink.write(offset + start, data);
      addRun(runs, offset + start, length);
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
