import { availableParallelism } from "node:os";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { BlockSource } from "../block-source.ts";
import { type HashJob, hashBlocks } from "./hash-blocks.js";

/** Data read and hashed at a time. */
const CHUNK_SIZE = 2 * 1024 * 1024;
/** Below this, starting threads takes longer than hashing. */
const MIN_SIZE_FOR_WORKERS = 32 * 1024 * 1024;
const MAX_DEFAULT_WORKERS = 8;
/** Chunks a worker has waiting besides the one in hand. */
const QUEUE_PER_WORKER = 2;

/** Digests of consecutive data blocks. */
export interface DigestBatch {
  /** number of the first block */
  readonly first: number;
  readonly count: number;
  /** digests, `digestStride` bytes apart */
  readonly digests: Uint8Array;
}

interface ReadChunk {
  readonly first: number;
  readonly count: number;
  readonly buffer: Uint8Array<ArrayBuffer>;
}

interface Hasher {
  /** Uses `buffer` up; its memory may serve another `buffer()` afterwards. */
  hash(buffer: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
  buffer(size: number): Uint8Array<ArrayBuffer>;
  close(): Promise<void>;
}

/**
 * Streams the digests of `dataBlocks` blocks of `source` in order. Reading runs ahead of hashing; worker threads end
 * with the iteration, whichever way it ends.
 */
export async function* digestsOf(
  source: BlockSource,
  job: HashJob,
  dataBlocks: number,
  options: { readonly workers?: number | undefined; readonly signal?: AbortSignal | undefined },
): AsyncGenerator<DigestBatch> {
  const { signal } = options;
  const saltSize = job.salt.byteLength;
  const batchBlocks = Math.max(1, Math.floor(CHUNK_SIZE / job.blockSize));
  const workers = options.workers ?? defaultWorkers(dataBlocks * job.blockSize);
  const hasher = workers === 0 ? inlineHasher(job) : workerHasher(job, workers);
  const depth = Math.max(1, workers * QUEUE_PER_WORKER);

  const read = async (first: number): Promise<ReadChunk> => {
    const count = Math.min(batchBlocks, dataBlocks - first);
    const buffer = hasher.buffer(saltSize + count * job.blockSize);
    const target = buffer.subarray(saltSize);
    if (source.readInto !== undefined) await source.readInto(target, first * job.blockSize);
    else target.set(await source.read(first * job.blockSize, target.byteLength));
    return { first, count, buffer };
  };

  const inFlight: Promise<DigestBatch>[] = [];
  let reading: Promise<ReadChunk> | undefined;
  try {
    signal?.throwIfAborted();
    reading = read(0);
    while (reading !== undefined || inFlight.length > 0) {
      if (reading !== undefined) {
        const { first, count, buffer }: ReadChunk = await reading;
        signal?.throwIfAborted();
        reading = first + count < dataBlocks ? quiet(read(first + count)) : undefined;
        inFlight.push(quiet(hasher.hash(buffer).then((digests) => ({ first, count, digests }))));
        if (inFlight.length < depth && reading !== undefined) continue;
      }
      const batch = await inFlight.shift();
      signal?.throwIfAborted();
      if (batch !== undefined) yield batch;
    }
  } finally {
    await hasher.close();
    await reading?.catch(() => undefined);
  }
}

function defaultWorkers(sizeBytes: number): number {
  return sizeBytes < MIN_SIZE_FOR_WORKERS ? 0 : Math.min(availableParallelism(), MAX_DEFAULT_WORKERS);
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

function inlineHasher(job: HashJob): Hasher {
  const pool = bufferPool();
  return {
    buffer: pool.take,
    async hash(buffer) {
      // Lets timers and signals run between chunks.
      await setImmediate();
      const digests = hashBlocks(job, buffer);
      pool.give(buffer.buffer);
      return digests;
    },
    async close() {},
  };
}

function workerHasher(job: HashJob, count: number): Hasher {
  const pool = bufferPool();
  const threads = Array.from({ length: count }, () => startThread(job, pool.give));
  return {
    buffer: pool.take,
    async hash(buffer) {
      const idle = threads.reduce((best, thread) => (thread.waiting() < best.waiting() ? thread : best));
      return idle.hash(buffer);
    },
    async close() {
      await Promise.all(threads.map((thread) => thread.end()));
    },
  };
}

interface HashThread {
  waiting(): number;
  hash(buffer: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
  end(): Promise<unknown>;
}

function startThread(job: HashJob, give: (buffer: ArrayBuffer) => void): HashThread {
  // Found beside this module both in the sources and in the built package, where it is an entry of its own.
  const worker = new Worker(new URL("./hash-worker.js", import.meta.url), { workerData: job, execArgv: [] });
  const waiting: { resolve(digests: Uint8Array): void; reject(error: unknown): void }[] = [];
  let failure: unknown;
  const fail = (error: unknown): void => {
    failure ??= error;
    for (const one of waiting.splice(0)) one.reject(failure);
  };
  worker.on("message", ({ digests, buffer }: { digests: Uint8Array; buffer: Uint8Array<ArrayBuffer> }) => {
    give(buffer.buffer);
    waiting.shift()?.resolve(digests);
  });
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`bug: a hash worker ended early with code ${code}`)));
  return {
    waiting: () => waiting.length,
    hash(buffer) {
      return new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        waiting.push({ resolve, reject });
        worker.postMessage(buffer, [buffer.buffer]);
      });
    },
    end: () => worker.terminate(),
  };
}
