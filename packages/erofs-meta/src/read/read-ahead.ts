import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { awaited, type Steps } from "../internal/steps.ts";

/** Bytes read at a time once reading goes on where it left off; the first times are shorter. */
const WINDOW_SIZE = 1024 * 1024;
const FIRST_WINDOW_SIZE = 64 * 1024;
const WINDOW_GROWTH = 4;
/** Reading goes on where it left off when it skips no more than this: other metadata, or a small file. */
const MAX_GAP = 128 * 1024;
/** Room in front of a window for what starts in the one before. */
const HEAD_SIZE = 32 * 1024;
/** Up to this many bytes, a read takes less time than the promise of one. */
const NEAR_READ_SIZE = 128 * 1024;
/** What is smaller is copied, so that keeping it does not keep a window. */
const MIN_GIVEN_SIZE = 16 * 1024;
/** Memory that small pieces are cut from, because memory of its own would take each of them longer than reading. */
const SLAB_SIZE = 256 * 1024;
/** The first one is smaller: there may never be need of another. */
const FIRST_SLAB_SIZE = MIN_GIVEN_SIZE;

/** A part of the source in memory. */
interface Window {
  readonly memory: Uint8Array;
  /** where in `memory` it starts */
  base: number;
  /** position in the source */
  start: number;
  length: number;
  /** somebody has a part of it to keep */
  isGiven: boolean;
  /** ends when it is filled, undefined from then on */
  loading: Promise<void> | undefined;
}

/** Reads bytes of content: by large windows while reading goes forward, the next one while this one is used. */
export class ContentReader {
  readonly #source: BlockSource;
  #window: Window = { memory: new Uint8Array(0), base: 0, start: 0, length: 0, isGiven: true, loading: undefined };
  #next: Window | undefined;
  #spare: Uint8Array | undefined;
  /** where the last read ended, and the last one that was elsewhere; how much is read when the next one goes on there */
  #end = 0;
  #strayEnd = 0;
  #size = FIRST_WINDOW_SIZE;
  #slab: Uint8Array = new Uint8Array(0);
  #used = 0;
  #scratch: Uint8Array = new Uint8Array(0);

  constructor(source: BlockSource) {
    this.#source = source;
  }

  /** @returns exactly `length` bytes, valid until anything else is read. */
  *view(offset: number, length: number): Steps<Uint8Array> {
    return this.found(offset, length) ?? (yield* this.#load(offset, length));
  }

  /** What `view` returns, if that takes neither reading nor waiting. */
  found(offset: number, length: number): Uint8Array | undefined {
    const found = partOf(this.#window, offset, length);
    if (found !== undefined) this.#end = offset + length;
    return found;
  }

  /**
   * @param reuse - what is returned is valid until anything else is read, instead of being the caller's to keep
   * @returns one to `most` bytes, as many as are at hand or else all of them
   */
  *some(offset: number, most: number, reuse: boolean): Steps<Uint8Array> {
    const left = leftIn(this.#window, offset) || (this.#next === undefined ? 0 : leftIn(this.#next, offset));
    const bytes = yield* this.view(offset, left > 0 ? Math.min(left, most) : most);
    return reuse ? bytes : this.#given(bytes);
  }

  /** Bytes that are in memory, valid until anything is read. */
  peek(offset: number, length: number): Uint8Array | undefined {
    const next = this.#next?.loading === undefined ? this.#next : undefined;
    return partOf(this.#window, offset, length) ?? (next === undefined ? undefined : partOf(next, offset, length));
  }

  /**
   * Memory which has anything in it.
   *
   * @param reuse - it is valid until the next call, instead of being the caller's to keep
   */
  allocate(length: number, reuse = false): Uint8Array {
    if (reuse) {
      if (this.#scratch.byteLength < length) this.#scratch = uninitialised(2 ** Math.ceil(Math.log2(length)));
      return this.#scratch.subarray(0, length);
    }
    if (length >= MIN_GIVEN_SIZE) return uninitialised(length);
    if (this.#used + length > this.#slab.byteLength) {
      this.#slab = uninitialised(this.#slab.byteLength === 0 ? FIRST_SLAB_SIZE : SLAB_SIZE);
      this.#used = 0;
    }
    const bytes = this.#slab.subarray(this.#used, this.#used + length);
    this.#used += length;
    return bytes;
  }

  #given(bytes: Uint8Array): Uint8Array {
    if (bytes.byteLength < MIN_GIVEN_SIZE) {
      const copy = this.allocate(bytes.byteLength);
      copy.set(bytes);
      return copy;
    }
    if (bytes.buffer === this.#window.memory.buffer) this.#window.isGiven = true;
    return bytes;
  }

  *#load(offset: number, length: number): Steps<Uint8Array> {
    const { sizeBytes } = this.#source;
    if (offset + length > sizeBytes) {
      throw new ErofsError("EROFS_TRUNCATED", `expected ${length} bytes, got an image that ends at byte ${sizeBytes}`, {
        offset,
      });
    }
    // Others may read meanwhile, so everything is looked at again after waiting.
    for (let next = this.#next; next !== undefined && covers(next, this.#window, offset, length); next = this.#next) {
      if (next.loading === undefined) this.#advance(next, offset);
      else yield next.loading;
      const found = this.found(offset, length);
      if (found !== undefined) return found;
    }
    const ahead = this.#expect(offset, length);
    if (length > ahead) {
      const bytes = this.allocate(length);
      yield* this.#readInto(bytes, offset);
      return bytes;
    }
    const window = this.#place(offset, Math.min(ahead, sizeBytes - offset));
    yield* this.#readInto(contentOf(window), offset);
    this.#replace(window);
    return contentOf(window).subarray(0, length);
  }

  /** How much to read at an offset: nothing more than is needed where no read has ended. */
  #expect(offset: number, length: number): number {
    const isNext = isSoonAfter(this.#end, offset);
    if (isNext || isSoonAfter(this.#strayEnd, offset)) {
      const size = isNext ? this.#size : FIRST_WINDOW_SIZE;
      this.#size = Math.min(WINDOW_SIZE, size * WINDOW_GROWTH);
      this.#end = offset + length;
      return size;
    }
    // One read elsewhere, such as of an end of a file that found room there, is no reason to give up what was read ahead.
    this.#strayEnd = offset + length;
    return 0;
  }

  /** Takes the window that was read ahead, putting what is left of this one in front of it. */
  #advance(next: Window, offset: number): void {
    const rest = next.start - offset;
    if (rest > 0) {
      const { memory, base, start } = this.#window;
      next.memory.set(memory.subarray(base + offset - start, base + this.#window.length), next.base - rest);
      next.base -= rest;
      next.start -= rest;
      next.length += rest;
    }
    this.#replace(next);
  }

  #replace(window: Window): void {
    if (!this.#window.isGiven) this.#spare = this.#window.memory;
    this.#window = window;
    this.#next = undefined;
    const start = window.start + window.length;
    const length = Math.min(WINDOW_SIZE, this.#source.sizeBytes - start);
    if (this.#size < WINDOW_SIZE || window.length < WINDOW_SIZE || length <= 0 || this.#source.readInto === undefined)
      return;
    const next = this.#place(start, length);
    const done = (): void => {
      next.loading = undefined;
    };
    // What fails is read again when it is asked for, and fails there.
    next.loading = this.#source.readInto(contentOf(next), start).then(done, () => {
      if (this.#next === next) this.#next = undefined;
      done();
    });
    this.#next = next;
  }

  #place(start: number, length: number): Window {
    const needed = HEAD_SIZE + length;
    const spare = this.#spare;
    this.#spare = undefined;
    const memory = spare !== undefined && spare.byteLength >= needed ? spare : uninitialised(needed);
    return { memory, base: HEAD_SIZE, start, length, isGiven: false, loading: undefined };
  }

  *#readInto(target: Uint8Array, offset: number): Steps<void> {
    const { readIntoSync, readInto } = this.#source;
    if (readIntoSync !== undefined && target.byteLength <= NEAR_READ_SIZE) this.#source.readIntoSync?.(target, offset);
    else if (readInto !== undefined) yield this.#source.readInto?.(target, offset) ?? Promise.resolve();
    else target.set(yield* awaited(this.#source.read(offset, target.byteLength)));
  }
}

function contentOf({ memory, base, length }: Window): Uint8Array {
  return memory.subarray(base, base + length);
}

function partOf({ memory, base, start, length: most }: Window, offset: number, length: number): Uint8Array | undefined {
  const at = offset - start;
  return at >= 0 && at + length <= most ? memory.subarray(base + at, base + at + length) : undefined;
}

/** Bytes from `offset` to the end of a window that it is in. */
function leftIn({ start, length }: Window, offset: number): number {
  return offset < start ? 0 : Math.max(0, start + length - offset);
}

function isSoonAfter(end: number, offset: number): boolean {
  return offset >= end && offset - end <= MAX_GAP;
}

/** Whether bytes are in a window, or start in the one before it and end in it. */
function covers(next: Window, before: Window, offset: number, length: number): boolean {
  if (offset + length > next.start + next.length) return false;
  if (offset >= next.start) return true;
  const isBehind = before.start + before.length === next.start;
  return isBehind && offset >= before.start && next.start - offset <= HEAD_SIZE;
}

/** Memory whose content does not matter, because it is written before it is read. */
function uninitialised(length: number): Uint8Array {
  const { buffer } = Buffer.allocUnsafeSlow(length);
  return new Uint8Array(buffer);
}
