import { ErofsError } from "../errors.ts";
import { NULL_BLOCK } from "../format/inode.ts";
import { isZero } from "../internal/bytes.ts";
import { awaited, type Steps } from "../internal/steps.ts";
import type { BlockWriter } from "./block-writer.ts";
import type { ContentStream } from "./entry.ts";
import type { Placement } from "./node.ts";

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

/** Writes content as it comes, chunk by chunk, and returns where it went. */
export function* placeContent(
  writer: BlockWriter,
  content: Uint8Array | ContentStream,
  path: string,
  options: ContentOptions,
): Steps<Placement> {
  const placer = new ContentPlacer(
    writer,
    content instanceof Uint8Array ? content.byteLength : content.sizeBytes,
    options,
  );
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
  let seen = 0;
  try {
    for (;;) {
      const { value, done } = yield* awaited(pieces.next());
      if (done === true) break;
      seen += value.byteLength;
      if (seen > sizeBytes) throw wrongSize(path, sizeBytes, `${seen} bytes or more`);
      yield value;
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
  readonly #options: ContentOptions;
  readonly #size: number;
  readonly #chunkBits: number;
  readonly #chunkSize: number;
  readonly #first: number;
  readonly #starts: number[] = [];
  #partial: Uint8Array | undefined;
  #filled = 0;
  #hasHoles = false;

  constructor(writer: BlockWriter, size: number, options: ContentOptions) {
    this.#writer = writer;
    this.#options = options;
    this.#size = size;
    const { blockSize } = options;
    this.#chunkBits = Math.max(0, Math.ceil(Math.log2(Math.ceil(size / blockSize) / MAX_CHUNKS)));
    this.#chunkSize = blockSize * 2 ** this.#chunkBits;
    this.#first = writer.block;
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
    const { blockSize, maxTail, tails } = this.#options;
    const last = this.#partial?.subarray(0, this.#filled) ?? new Uint8Array(0);
    const tailSize = this.#size % blockSize;
    if (!this.#hasHoles && tailSize > 0 && tailSize <= maxTail && tails.hasRoom(tailSize)) {
      const split = last.byteLength - tailSize;
      yield* this.#writer.write(last.subarray(0, split));
      return { layout: "inline", block: this.#first, tail: tails.keep(last.subarray(split)) };
    }
    if (last.byteLength > 0) {
      this.#starts.push(this.#writer.block);
      yield* this.#writer.write(last);
      yield* this.#writer.pad();
    }
    if (!this.#hasHoles) return { layout: "plain", block: this.#size === 0 ? 0 : this.#first };
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
    const { blockSize, sparse } = this.#options;
    const size = this.#chunkSize;
    let run = 0;
    for (let at = 0; at < bytes.byteLength; at += size) {
      if (sparse && isZero(bytes, at, at + size)) {
        yield* this.#writer.write(bytes.subarray(run, at));
        run = at + size;
        this.#hasHoles = true;
        this.#starts.push(NULL_BLOCK);
      } else this.#starts.push(this.#writer.block + (at - run) / blockSize);
    }
    yield* this.#writer.write(run === 0 ? bytes : bytes.subarray(run));
  }
}

function wrongSize(path: string, expected: number, got: string): ErofsError {
  return new ErofsError("EROFS_BAD_TREE", `expected ${expected} bytes of content, got ${got}`, {
    path,
    hint: "the content must not change while the image is written",
  });
}
