import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { awaited, type Steps } from "../internal/steps.ts";
import type { ContentReader } from "./read-ahead.ts";

/** Bytes read at a time where a read costs a system call: some writers put every inode beside its content. */
const NEAR_WINDOW_SIZE = 4 * 1024;
/** Most bytes kept of such reads; more than the processor's own cache holds would make them slower. */
const NEAR_CACHE_SIZE = 4 * 1024 * 1024;
/** Most windows read at once where one was wanted after the other: other writers put all inodes together. */
const MAX_BURST = 16;
/** Bytes read at a time where it costs a round trip. */
const FAR_WINDOW_SIZE = 128 * 1024;
/** Most bytes kept of those. */
const FAR_CACHE_SIZE = 16 * 1024 * 1024;

/**
 * Small reads of metadata through a bounded cache: an inode costs a comparison instead of a read. Each window has one
 * slot that it can be in; walks are mostly sequential, so a choice of slots would not earn its cost.
 */
export class MetadataCache {
  /** windows, then room for what lies across two of them; replaced piece by piece */
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly #source: BlockSource;
  readonly #content: ContentReader | undefined;
  readonly #windowSize: number;
  readonly #slotCount: number;
  /** number of the window that is in a slot, -1 for none */
  readonly #owners: Float64Array;
  /** memory of the slots, each made when it is first needed */
  readonly #slots: Uint8Array[] = [];
  /** window behind the last one that was read, and how many were read at once */
  #next = -1;
  #burst = 1;

  /** @param content - reads the same source, and has some of it in memory */
  constructor(source: BlockSource, content?: ContentReader) {
    this.#source = source;
    this.#content = content;
    const isFar = source.readIntoSync === undefined;
    this.#windowSize = isFar ? FAR_WINDOW_SIZE : NEAR_WINDOW_SIZE;
    const windows = Math.ceil(source.sizeBytes / this.#windowSize);
    const slots = (isFar ? FAR_CACHE_SIZE : NEAR_CACHE_SIZE) / this.#windowSize;
    this.#slotCount = Math.max(1, Math.min(windows, slots));
    this.#owners = new Float64Array(this.#slotCount).fill(-1);
    // What is in no window yet is not looked at.
    this.bytes = Buffer.allocUnsafeSlow((this.#slotCount + 1) * this.#windowSize);
    this.view = new DataView(this.bytes.buffer);
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
    const slot = index % this.#slotCount;
    return this.#owners[slot] === index || this.#loadNow(index) ? slot * size + within : -1;
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
        if (!this.#has(index)) yield this.#load(index);
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
    if (!this.#has(first) && !this.#loadNow(first)) return -1;
    const head = this.#slotOf(first);
    this.bytes.copyWithin(joined, head + size - split, head + size);
    if (!this.#has(first + 1) && !this.#loadNow(first + 1)) return -1;
    const tail = this.#slotOf(first + 1);
    this.bytes.copyWithin(joined + split, tail, tail + length - split);
    return joined;
  }

  #has(index: number): boolean {
    return this.#owners[index % this.#slotCount] === index;
  }

  /** Where the slot of a window is in `bytes`. */
  #slotOf(index: number): number {
    return (index % this.#slotCount) * this.#windowSize;
  }

  /** @returns whether that takes no waiting. */
  #loadNow(index: number): boolean {
    if (this.#source.readIntoSync === undefined) return false;
    const start = index * this.#windowSize;
    const slot = index % this.#slotCount;
    this.#burst = index === this.#next ? Math.min(this.#burst * 2, MAX_BURST, this.#slotCount - slot) : 1;
    const windows = this.#vacate(index, this.#burst);
    const known = this.#content?.peek(start, windows.byteLength);
    if (known === undefined) this.#source.readIntoSync(windows, start);
    else windows.set(known);
    for (let at = 0; at < this.#burst; at += 1) this.#owners[slot + at] = index + at;
    this.#next = index + this.#burst;
    return true;
  }

  async #load(index: number): Promise<void> {
    const start = index * this.#windowSize;
    const bytes = await this.#source.read(start, Math.min(this.#windowSize, this.#source.sizeBytes - start));
    this.#vacate(index).set(bytes);
    this.#owners[index % this.#slotCount] = index;
  }

  /** Memory for windows one behind the other, which may have parts of others until it is filled. */
  #vacate(index: number, count = 1): Uint8Array {
    const size = this.#windowSize;
    const slot = index % this.#slotCount;
    this.#owners.fill(-1, slot, slot + count);
    const left = this.#source.sizeBytes - index * size;
    if (count > 1 || left < size) return this.bytes.subarray(slot * size, slot * size + Math.min(count * size, left));
    this.#slots[slot] ??= this.bytes.subarray(slot * size, (slot + 1) * size);
    return this.#slots[slot];
  }
}
