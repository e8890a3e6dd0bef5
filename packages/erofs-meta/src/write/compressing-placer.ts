import { availableParallelism } from "node:os";
import { type JobThread, leastBusy, startThread } from "../internal/job-thread.ts";
import type { Steps } from "../internal/steps.ts";
import type { Course } from "./block-space.ts";
import { batchCompressor, type CompressedSegment, type CompressJob, type Segment } from "./compress-segment.js";
import { maxIndexSize } from "./compressed-index.ts";
import { type ContentOptions, type ContentOutput, piecesOf, placeContent } from "./content.ts";
import type { ContentStream } from "./entry.ts";
import type { Placement, StoredRun } from "./node.ts";

/** Content that is compressed by itself, in `bytes`: what a thread has to do at a time. */
const SEGMENT_SIZE = 1024 * 1024;
/** Extents that a segment should have room for. */
const EXTENTS_PER_SEGMENT = 4;
/** Batches a thread has at a time. */
const QUEUE_PER_WORKER = 2;
const MAX_DEFAULT_WORKERS = 8;

/** A file whose content has been taken, and whose place is not known yet. */
interface Pending {
  readonly path: string;
  readonly size: number;
  /** most bytes in front of the map header, from the inode on */
  readonly areaEnd: number;
  /** store it as it is */
  readonly isRaw: boolean;
  readonly options: ContentOptions;
  readonly place: (placement: Placement) => void;
  readonly extents: StoredRun[];
  course: Course | undefined;
}

/**
 * Memory of a batch, which goes to a thread and comes back, to be used again and again. Memory that threads share would
 * be copied byte by byte.
 */
interface BatchMemory {
  readonly input: Uint8Array<ArrayBuffer>;
  readonly output: Uint8Array<ArrayBuffer>;
}

interface Batch {
  readonly memory: BatchMemory;
  filled: number;
  readonly items: { readonly file: Pending; readonly segment: Segment }[];
}

interface Answer extends BatchMemory {
  readonly segments: readonly CompressedSegment[];
}

interface Slot {
  readonly items: Batch["items"];
  answer: Answer | undefined;
  readonly done: Promise<void>;
}

/** What a file is to be placed with. */
export interface CompressibleFile extends Pick<Pending, "path" | "areaEnd" | "isRaw" | "options" | "place"> {
  readonly content: Uint8Array | ContentStream;
}

/**
 * Compresses contents in worker threads and writes them in the order in which they came, so that the image does not
 * depend on how many threads there are.
 */
export class CompressingPlacer {
  readonly #job: CompressJob;
  readonly #algorithm: number;
  readonly #output: ContentOutput;
  readonly #threads: readonly JobThread<Answer>[];
  /** compresses in this thread, where there are no others */
  readonly #compress: ReturnType<typeof batchCompressor>;
  readonly #segmentSize: number;
  readonly #slots: Slot[] = [];
  readonly #spare: BatchMemory[] = [];
  #batch: Batch;

  /** @param algorithm - its number in the format */
  constructor(job: CompressJob, algorithm: number, output: ContentOutput, workers: number | undefined) {
    this.#job = job;
    this.#algorithm = algorithm;
    this.#output = output;
    this.#segmentSize = Math.max(SEGMENT_SIZE, EXTENTS_PER_SEGMENT * job.clusterSize);
    // Found beside this module both in the sources and in the built package, where it is an entry of its own.
    const url = new URL("./compress-worker.js", import.meta.url);
    // The thread that writes is busy too, and does what the others have no time for.
    const count = workers ?? Math.min(Math.max(1, availableParallelism() - 1), MAX_DEFAULT_WORKERS);
    this.#threads = Array.from({ length: count }, () => startThread<Answer>(url, job));
    this.#compress = batchCompressor(job);
    this.#batch = this.#newBatch();
  }

  /** Takes a file's content. */
  *add({ content, ...file }: CompressibleFile): Steps<void> {
    const size = content instanceof Uint8Array ? content.byteLength : content.sizeBytes;
    const pending: Pending = { ...file, size, extents: [], course: undefined };
    let left = size;
    let open: { start: number; end: number } | undefined;
    for (const piece of piecesOf(content, file.path)) {
      if (piece instanceof Promise) {
        yield piece;
        continue;
      }
      for (let from = 0; from < piece.byteLength; ) {
        if (open === undefined) {
          const length = Math.min(left, this.#segmentSize);
          if (this.#batch.filled + length > this.#segmentSize) yield* this.#send();
          const start = this.#batch.filled;
          open = { start, end: start + length };
        }
        const part = piece.subarray(from, from + open.end - this.#batch.filled);
        this.#batch.memory.input.set(part, this.#batch.filled);
        this.#batch.filled += part.byteLength;
        from += part.byteLength;
        left -= part.byteLength;
        if (this.#batch.filled === open.end) {
          const segment = { ...open, isLast: left === 0, isWhole: size <= this.#segmentSize, isRaw: file.isRaw };
          this.#batch.items.push({ file: pending, segment });
          open = undefined;
        }
      }
    }
  }

  /** Writes everything that was taken. */
  *finish(): Steps<void> {
    yield* this.#send();
    while (this.#slots.length > 0) yield* this.#writeNext();
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }

  #newBatch(): Batch {
    const size = this.#segmentSize;
    const memory = this.#spare.pop() ?? { input: new Uint8Array(size), output: new Uint8Array(size) };
    return { memory, filled: 0, items: [] };
  }

  *#send(): Steps<void> {
    const { memory, filled, items } = this.#batch;
    if (items.length === 0) return;
    const segments = items.map(({ segment }) => segment);
    const thread = leastBusy(this.#threads, QUEUE_PER_WORKER);
    const { input, output } = memory;
    const answer =
      thread === undefined
        ? Promise.resolve({ ...memory, segments: this.#compress(input.subarray(0, filled), segments, output) })
        : thread.run({ ...memory, filled, segments }, [input.buffer, output.buffer]);
    this.#slots.push(slotOf(items, answer));
    const most = Math.max(1, this.#threads.length * QUEUE_PER_WORKER);
    while (this.#slots.length > most) yield* this.#writeNext();
    while (this.#slots[0]?.answer !== undefined) yield* this.#writeNext();
    this.#batch = this.#newBatch();
  }

  *#writeNext(): Steps<void> {
    const slot = this.#slots[0];
    if (slot === undefined) return;
    if (slot.answer === undefined) yield slot.done;
    this.#slots.shift();
    const { answer } = slot;
    if (answer === undefined) throw new Error("bug: a batch is done without an answer");
    const { segments, input, output } = answer;
    for (const [index, { file, segment }] of slot.items.entries()) {
      const result = segments[index];
      if (result !== undefined) yield* this.#place(file, segment, result, output);
    }
    this.#spare.push({ input, output });
  }

  *#place(file: Pending, segment: Segment, result: CompressedSegment, data: Uint8Array): Steps<void> {
    if (!result.isCompressed) {
      const content = data.subarray(result.start, result.start + file.size);
      file.place(yield* placeContent(this.#output, content, file.path, file.options));
      return;
    }
    const { blockSize } = this.#job;
    const { writer, space, old } = this.#output;
    const extents = this.#extentsOf(file, segment, result);
    // How much all of a file takes is known when it is one segment.
    const blocks = segment.isLast ? extents.reduce((sum, extent) => sum + extent.blocks, 0) : undefined;
    file.course ??= space.course(blocks, old?.takeContent(file.path));
    let at = result.start;
    let tail: Uint8Array = new Uint8Array(0);
    for (const { length, stored, blocks: count, isCompressed } of extents) {
      const bytes = data.subarray(at, at + stored);
      at += stored;
      if (count === 0) {
        file.extents.push({ length, block: 0, blocks: 0, isCompressed });
        tail = file.options.tails.keep(bytes);
        continue;
      }
      const { block } = file.course.take(count, count);
      file.extents.push({ length, block, blocks: count, isCompressed });
      yield* writer.moveTo(block);
      // Compressed data ends with its last block, other content starts with its first.
      if (isCompressed) yield* writer.skip(count * blockSize - stored);
      yield* writer.write(bytes);
      yield* writer.pad();
    }
    if (!segment.isLast) return;
    file.course.end();
    const { size, course, extents: all } = file;
    const map = { algorithm: this.#algorithm, isBig: this.#job.clusterSize > blockSize, size, extents: all };
    file.place({ layout: course.isOneRun() ? "compressed-compact" : "compressed-full", map, tail });
  }

  /** Extents of a segment, without blocks yet, and their lengths as they are stored in `bytes`. */
  #extentsOf(file: Pending, { isLast }: Segment, { extents }: CompressedSegment): (StoredRun & { stored: number })[] {
    const found: (StoredRun & { stored: number })[] = [];
    for (let index = 0; index < extents.length; index += 3) {
      const length = extents[index] ?? 0;
      const stored = extents[index + 1] ?? 0;
      const isInline = isLast && index + 3 === extents.length && this.#fitsInline(file, stored);
      const blocks = isInline ? 0 : Math.ceil(stored / this.#job.blockSize);
      found.push({ length, stored, block: 0, blocks, isCompressed: extents[index + 2] === 1 });
    }
    return found;
  }

  /** A tail behind the indexes has to be in one block, for which all of the inode has to be. */
  #fitsInline({ areaEnd, size, options }: Pending, stored: number): boolean {
    const { blockSize } = this.#job;
    return areaEnd + maxIndexSize(size, blockSize) + stored <= blockSize && options.tails.hasRoom(stored);
  }
}

function slotOf(items: Batch["items"], answer: Promise<Answer>): Slot {
  const done = answer.then((found) => {
    slot.answer = found;
  });
  // A failure is seen when the slot is waited for; until then it must not count as unhandled.
  done.catch(() => undefined);
  const slot: Slot = { items, answer: undefined, done };
  return slot;
}
