import { ErofsError } from "../errors.ts";
import { NULL_BLOCK } from "../format/inode.ts";
import { isZero } from "../internal/bytes.ts";
import { awaited, type Steps } from "../internal/steps.ts";
import { Pace } from "../read/pace.ts";
import type { BlockSpace, Course } from "./block-space.ts";
import type { BlockWriter } from "./block-writer.ts";
import type { ContentStream } from "./entry.ts";
import type { Placement } from "./node.ts";
import type { OldPlaces } from "./old-places.ts";

/** Most chunks a file is divided into: larger files have larger chunks. */
const MAX_CHUNKS = 2 ** 18;
const SLAB_SIZE = 1024 * 1024;

/** Keeps ends of contents in memory until their inodes are written, up to a limit. */
export class TailStore {
  #left: number;
  #slab = new Uint8Array(0);
  #used = 0;

  constructor(limit: number) {
    this.#left = limit;
  }

  hasRoom(length: number): boolean {
    return length <= this.#left;
  }

  /** @returns a copy; small ones share memory, because memory of its own would take each of them as much again. */
  keep(bytes: Uint8Array): Uint8Array {
    const { byteLength } = bytes;
    this.#left -= byteLength;
    if (this.#used + byteLength > this.#slab.byteLength) {
      this.#slab = new Uint8Array(Math.max(SLAB_SIZE, byteLength));
      this.#used = 0;
    }
    const kept = this.#slab.subarray(this.#used, this.#used + byteLength);
    kept.set(bytes);
    this.#used += byteLength;
    return kept;
  }
}

/** What decides how contents are laid out. */
export interface ContentOptions {
  readonly blockSize: number;
  /** leave out chunks of zeros */
  readonly sparse: boolean;
  readonly tails: TailStore;
  /** longest tail that fits behind an inode */
  readonly maxTail: number;
}

/** Where contents go, and what writes them there. */
export interface ContentOutput {
  readonly space: BlockSpace;
  readonly writer: BlockWriter;
  /** where they were in an older image */
  readonly old: OldPlaces | undefined;
}

/** Writes content as it comes, chunk by chunk, and returns where it went. */
export function* placeContent(
  output: ContentOutput,
  content: Uint8Array | ContentStream,
  path: string,
  options: ContentOptions,
): Steps<Placement> {
  const size = content instanceof Uint8Array ? content.byteLength : content.sizeBytes;
  const placer = new ContentPlacer(output, size, options, path);
  for (const piece of piecesOf(content, path)) {
    if (piece instanceof Promise) yield piece;
    else yield* placer.add(piece);
  }
  return yield* placer.end();
}

/** Streams content that is as long as it says. */
export function* piecesOf(
  content: Uint8Array | ContentStream,
  path: string,
): Generator<Uint8Array | Promise<unknown>, void, void> {
  if (content instanceof Uint8Array) {
    yield content;
    return;
  }
  const { sizeBytes } = content;
  const whole = content.readNow?.();
  if (whole !== undefined) {
    if (whole.byteLength !== sizeBytes) throw wrongSize(path, sizeBytes, `${whole.byteLength} bytes`);
    yield whole;
    return;
  }
  const pieces = content.read()[Symbol.asyncIterator]();
  const pace = new Pace();
  let seen = 0;
  try {
    for (;;) {
      const { value, done } = yield* awaited(pieces.next());
      if (done === true) break;
      seen += value.byteLength;
      if (seen > sizeBytes) throw wrongSize(path, sizeBytes, `${seen} bytes or more`);
      yield value;
      const pause = pace.pause(value.byteLength);
      if (pause !== undefined) yield pause;
    }
  } finally {
    const ended = pieces.return?.();
    if (ended !== undefined) yield ended;
  }
  if (seen < sizeBytes) throw wrongSize(path, sizeBytes, `${seen} bytes`);
}

/** Takes content in pieces of any size and writes the chunks that are not zeros. */
class ContentPlacer {
  readonly #writer: BlockWriter;
  readonly #course: Course;
  readonly #options: ContentOptions;
  readonly #size: number;
  readonly #chunkBits: number;
  readonly #chunkSize: number;
  /** the end goes behind the inode, if everything else lies together */
  readonly #hasTail: boolean;
  readonly #starts: number[] = [];
  #partial: Uint8Array | undefined;
  #filled = 0;
  #hasHoles = false;

  constructor({ space, writer, old }: ContentOutput, size: number, options: ContentOptions, path: string) {
    this.#writer = writer;
    this.#options = options;
    this.#size = size;
    const { blockSize, maxTail, tails } = options;
    const blocks = Math.ceil(size / blockSize);
    this.#chunkBits = Math.max(0, Math.ceil(Math.log2(blocks / MAX_CHUNKS)));
    this.#chunkSize = blockSize * 2 ** this.#chunkBits;
    const tailSize = size % blockSize;
    this.#hasTail = tailSize > 0 && tailSize <= maxTail && tails.hasRoom(tailSize);
    this.#course = space.course(this.#hasTail ? blocks - 1 : blocks, old?.takeContent(path));
  }

  *add(piece: Uint8Array): Steps<void> {
    let from = 0;
    if (this.#filled > 0) {
      from = this.#keep(piece);
      if (this.#filled === this.#chunkSize && this.#partial !== undefined) {
        this.#filled = 0;
        yield* this.#writeChunks(this.#partial);
      }
    }
    const whole = Math.floor((piece.byteLength - from) / this.#chunkSize) * this.#chunkSize;
    if (whole > 0) yield* this.#writeChunks(piece.subarray(from, from + whole));
    if (from + whole < piece.byteLength) this.#keep(piece.subarray(from + whole));
  }

  *end(): Steps<Placement> {
    const { blockSize, tails } = this.#options;
    const last = this.#partial?.subarray(0, this.#filled) ?? new Uint8Array(0);
    const split = Math.floor(last.byteLength / blockSize) * blockSize;
    const isInline = this.#hasTail && !this.#hasHoles && this.#course.isOneRun(split / blockSize);
    yield* this.#store(isInline ? last.subarray(0, split) : last);
    this.#course.end();
    const block = this.#course.first ?? 0;
    if (isInline) return { layout: "inline", block, tail: tails.keep(last.subarray(split)) };
    if (!this.#hasHoles && this.#course.isOneRun()) return { layout: "plain", block };
    return { layout: "chunk", chunkBits: this.#chunkBits, blocks: Uint32Array.from(this.#starts) };
  }

  /** Keeps the start of a chunk until there is more of it. */
  #keep(bytes: Uint8Array): number {
    this.#partial ??= new Uint8Array(Math.min(this.#chunkSize, this.#size));
    const part = bytes.subarray(0, this.#chunkSize - this.#filled);
    this.#partial.set(part, this.#filled);
    this.#filled += part.byteLength;
    return part.byteLength;
  }

  /** Writes whole chunks, neighbours in one go. */
  *#writeChunks(bytes: Uint8Array): Steps<void> {
    const size = this.#chunkSize;
    const isHole = (at: number): boolean => this.#options.sparse && isZero(bytes, at, at + size);
    let run = 0;
    for (let at = 0; at < bytes.byteLength; at += size) {
      if (!isHole(at)) continue;
      yield* this.#store(bytes.subarray(run, at));
      run = at + size;
      this.#hasHoles = true;
      this.#starts.push(NULL_BLOCK);
    }
    yield* this.#store(run === 0 ? bytes : bytes.subarray(run));
  }

  /** Writes chunks, of which the last one may be shorter, to the next blocks. */
  *#store(bytes: Uint8Array): Steps<void> {
    const { blockSize } = this.#options;
    const unit = 2 ** this.#chunkBits;
    for (let from = 0; from < bytes.byteLength; ) {
      const { block, count } = this.#course.take(Math.ceil((bytes.byteLength - from) / blockSize), unit);
      for (let at = 0; at < count; at += unit) this.#starts.push(block + at);
      const part = bytes.subarray(from, from + count * blockSize);
      yield* this.#writer.moveTo(block);
      yield* this.#writer.write(part);
      yield* this.#writer.pad();
      from += part.byteLength;
    }
  }
}

function wrongSize(path: string, expected: number, got: string): ErofsError {
  return new ErofsError("EROFS_BAD_TREE", `expected ${expected} bytes of content, got ${got}`, {
    path,
    hint: "the content must not change while the image is written",
  });
}
