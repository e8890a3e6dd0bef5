import { availableParallelism } from "node:os";
import { setImmediate } from "node:timers/promises";
import type { BlockSource } from "../block-source.ts";
import { leastBusy, startThread } from "../internal/job-thread.ts";
import { type HashJob, hashBlocks } from "./hash-blocks.js";

/** Data read and hashed at a time: the calling thread is busy for some three milliseconds with it. */
const CHUNK_SIZE = 2 * 1024 * 1024;
/** Below this, starting threads takes longer than hashing. */
const MIN_SIZE_FOR_WORKERS = 32 * 1024 * 1024;
const MAX_DEFAULT_WORKERS = 7;
/** Chunks a worker has at a time, so that it never waits for the calling thread, which hashes too. */
const QUEUE_PER_WORKER = 2;
/** Digests that may wait for earlier ones, in chunks. */
const MAX_AHEAD = 64;

/** Digests of consecutive data blocks. */
export interface DigestBatch {
  /** number of the first block */
  readonly first: number;
  readonly count: number;
  /** digests, `digestStride` bytes apart */
  readonly digests: Uint8Array;
}

interface Chunk {
  readonly first: number;
  readonly count: number;
  readonly buffer: Uint8Array<ArrayBuffer>;
}

interface HashAnswer {
  readonly digests: Uint8Array;
  readonly buffer: Uint8Array<ArrayBuffer>;
}

/** A place in the order of results. */
interface Slot {
  readonly first: number;
  readonly count: number;
  digests: Uint8Array | undefined;
  readonly done: Promise<void>;
}

/**
 * Streams the digests of `dataBlocks` blocks of `source` in order. Reading runs ahead of hashing; the calling thread
 * hashes what workers have no time for. Worker threads end with the iteration, whichever way it ends.
 */
export async function* digestsOf(
  source: BlockSource,
  job: HashJob,
  dataBlocks: number,
  options: { readonly workers?: number | undefined; readonly signal?: AbortSignal | undefined },
): AsyncGenerator<DigestBatch> {
  const { signal } = options;
  signal?.throwIfAborted();
  const saltSize = job.salt.byteLength;
  const batchBlocks = Math.max(1, Math.floor(CHUNK_SIZE / job.blockSize));
  const pool = bufferPool();
  const workers = options.workers ?? defaultWorkers(dataBlocks * job.blockSize);
  // Found beside this module both in the sources and in the built package, where it is an entry of its own.
  const url = new URL("./hash-worker.js", import.meta.url);
  const threads = Array.from({ length: workers }, () => startThread<HashAnswer>(url, job));

  const read = async (first: number): Promise<Chunk> => {
    const count = Math.min(batchBlocks, dataBlocks - first);
    const buffer = pool.take(saltSize + count * job.blockSize);
    const target = buffer.subarray(saltSize);
    if (source.readInto !== undefined) await source.readInto(target, first * job.blockSize);
    else target.set(await source.read(first * job.blockSize, target.byteLength));
    return { first, count, buffer };
  };
  const hash = async ({ first, count, buffer }: Chunk): Promise<Slot> => {
    const thread = leastBusy(threads, QUEUE_PER_WORKER);
    if (thread !== undefined) {
      const digests = thread.run(buffer, [buffer.buffer]).then((answer) => {
        pool.give(answer.buffer.buffer);
        return answer.digests;
      });
      return slotOf(first, count, digests);
    }
    // Lets timers, signals and workers be heard between chunks.
    await setImmediate();
    const digests = hashBlocks(job, buffer);
    pool.give(buffer.buffer);
    return { first, count, digests, done: Promise.resolve() };
  };

  const slots: Slot[] = [];
  let reading: Promise<Chunk> | undefined = quiet(read(0));
  try {
    while (reading !== undefined || slots.length > 0) {
      if (reading !== undefined) {
        const chunk: Chunk = await reading;
        const next = chunk.first + chunk.count;
        reading = next < dataBlocks ? quiet(read(next)) : undefined;
        slots.push(await hash(chunk));
      }
      if (reading === undefined || slots.length > MAX_AHEAD) await slots[0]?.done;
      signal?.throwIfAborted();
      while (slots[0]?.digests !== undefined) {
        const { first, count, digests } = slots[0];
        slots.shift();
        yield { first, count, digests };
      }
    }
  } finally {
    await Promise.all(threads.map((thread) => thread.end()));
    await reading?.catch(() => undefined);
  }
}

function defaultWorkers(sizeBytes: number): number {
  return sizeBytes < MIN_SIZE_FOR_WORKERS ? 0 : Math.min(availableParallelism() - 1, MAX_DEFAULT_WORKERS);
}

function slotOf(first: number, count: number, digests: Promise<Uint8Array>): Slot {
  const done = digests.then((found) => {
    slot.digests = found;
  });
  const slot: Slot = { first, count, digests: undefined, done: quiet(done) };
  return slot;
}

/** Keeps a failure that is awaited later from being reported as unhandled now. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** Memory that went round once is used again: page faults cost as much as hashing does otherwise. */
function bufferPool(): { take(size: number): Uint8Array<ArrayBuffer>; give(buffer: ArrayBuffer): void } {
  const free: ArrayBuffer[] = [];
  return {
    take(size) {
      const buffer = free.pop();
      return buffer !== undefined && buffer.byteLength >= size
        ? new Uint8Array(buffer, 0, size)
        : new Uint8Array(new ArrayBuffer(size));
    },
    give: (buffer) => void free.push(buffer),
  };
}
