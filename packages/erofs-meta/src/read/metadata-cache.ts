import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { awaited, type Steps } from "../internal/steps.ts";
import type { ContentReader } from "./read-ahead.ts";

const MAX_CACHE_SIZE = 16 * 1024 * 1024;
/** Bytes read at a time where a read costs a system call: some writers put every inode beside its content. */
const NEAR_WINDOW_SIZE = 8 * 1024;
/** Bytes read at a time where it costs a round trip. */
const FAR_WINDOW_SIZE = 128 * 1024;

/**
 * Small reads of metadata through a bounded cache: an inode costs a map look-up instead of a read. The oldest window
 * goes first; walks are mostly sequential, so a recency list would not earn its cost.
 */
export class MetadataCache {
  /** windows, then room for what lies across two of them; replaced piece by piece */
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly #source: BlockSource;
  readonly #content: ContentReader | undefined;
  readonly #windowSize: number;
  readonly #slots = new Map<number, number>();
  readonly #owners: number[] = [];
  readonly #slotCount: number;
  #nextSlot = 0;

  /** @param content - reads the same source, and has some of it in memory */
  constructor(source: BlockSource, content?: ContentReader) {
    this.#source = source;
    this.#content = content;
    this.#windowSize = source.readIntoSync === undefined ? FAR_WINDOW_SIZE : NEAR_WINDOW_SIZE;
    const windows = Math.ceil(source.sizeBytes / this.#windowSize);
    this.#slotCount = Math.max(1, Math.min(windows, MAX_CACHE_SIZE / this.#windowSize));
    const memory = new ArrayBuffer((this.#slotCount + 1) * this.#windowSize);
    this.bytes = Buffer.from(memory);
    this.view = new DataView(memory);
  }

  /** Length of what is read in `bytes`. */
  get sizeBytes(): number {
    return this.#source.sizeBytes;
  }

  /** Most bytes that `find` finds. */
  get maxFound(): number {
    return this.#windowSize;
  }

  /**
   * Where bytes of the image are in `bytes`, until the next call; -1 when they have to be waited for.
   *
   * @param length - At most {@link maxFound}.
   */
  find(offset: number, length: number): number {
    const size = this.#windowSize;
    const index = Math.floor(offset / size);
    const within = offset - index * size;
    if (within + length > size) return this.#join(offset, length);
    const slot = this.#slots.get(index) ?? this.#loadNow(index);
    return slot === -1 ? -1 : slot * size + within;
  }

  /** As `find`, waiting where that is necessary. */
  *locate(offset: number, length: number): Steps<number> {
    this.#assertInside(offset, length);
    for (;;) {
      const at = this.find(offset, length);
      if (at !== -1) return at;
      const size = this.#windowSize;
      const last = Math.floor((offset + length - 1) / size);
      for (let index = Math.floor(offset / size); index <= last; index += 1) {
        if (!this.#slots.has(index)) yield this.#load(index);
      }
    }
  }

  /** A copy of bytes of any length. */
  *read(offset: number, length: number): Steps<Uint8Array> {
    this.#assertInside(offset, length);
    const bytes = new Uint8Array(length);
    yield* this.readInto(bytes, offset);
    return bytes;
  }

  /** Copies bytes of any number. */
  *readInto(target: Uint8Array, offset: number): Steps<void> {
    const { byteLength } = target;
    this.#assertInside(offset, byteLength);
    if (byteLength > this.#windowSize) target.set(yield* awaited(this.#source.read(offset, byteLength)));
    else if (byteLength > 0) {
      const at = yield* this.locate(offset, byteLength);
      target.set(this.bytes.subarray(at, at + byteLength));
    }
  }

  #assertInside(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.#source.sizeBytes) {
      const message = `expected ${length} bytes, got an image that ends at byte ${this.#source.sizeBytes}`;
      throw new ErofsError("EROFS_TRUNCATED", message, { offset });
    }
  }

  /** Puts what lies across two windows together. */
  #join(offset: number, length: number): number {
    const size = this.#windowSize;
    const joined = this.#slotCount * size;
    const first = Math.floor(offset / size);
    const split = (first + 1) * size - offset;
    // The first part is copied before the second one may take its place.
    const head = this.#slots.get(first) ?? this.#loadNow(first);
    if (head === -1) return -1;
    this.bytes.copyWithin(joined, head * size + size - split, (head + 1) * size);
    const tail = this.#slots.get(first + 1) ?? this.#loadNow(first + 1);
    if (tail === -1) return -1;
    this.bytes.copyWithin(joined + split, tail * size, tail * size + length - split);
    return joined;
  }

  #loadNow(index: number): number {
    if (this.#source.readIntoSync === undefined) return -1;
    const slot = this.#freeSlot();
    const window = this.#window(index, slot);
    const known = this.#content?.peek(index * this.#windowSize, window.byteLength);
    if (known === undefined) this.#source.readIntoSync(window, index * this.#windowSize);
    else window.set(known);
    return this.#take(index, slot);
  }

  async #load(index: number): Promise<void> {
    const start = index * this.#windowSize;
    const window = await this.#source.read(start, Math.min(this.#windowSize, this.#source.sizeBytes - start));
    if (this.#slots.has(index)) return;
    const slot = this.#freeSlot();
    this.#window(index, slot).set(window);
    this.#take(index, slot);
  }

  #window(index: number, slot: number): Uint8Array {
    const length = Math.min(this.#windowSize, this.#source.sizeBytes - index * this.#windowSize);
    return new Uint8Array(this.view.buffer, slot * this.#windowSize, length);
  }

  #freeSlot(): number {
    const slot = this.#nextSlot;
    const owner = this.#owners[slot];
    if (owner !== undefined) this.#slots.delete(owner);
    return slot;
  }

  #take(index: number, slot: number): number {
    this.#owners[slot] = index;
    this.#slots.set(index, slot);
    this.#nextSlot = (slot + 1) % this.#slotCount;
    return slot;
  }
}
