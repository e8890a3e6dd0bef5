import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { awaited, type Steps } from "../internal/steps.ts";

const WINDOW_SIZE = 1024 * 1024;
/** Up to this many bytes, a read takes less time than the promise of one. */
const NEAR_READ_SIZE = 128 * 1024;
/** Memory that small reads are cut from, because memory of its own would take each of them longer than reading. */
const SLAB_SIZE = 256 * 1024;
const MAX_CUT_SIZE = 32 * 1024;

/** Reads bytes of content, without a promise where there are few of them and the source can. */
export class ContentReader {
  readonly #source: BlockSource;
  #slab = new ArrayBuffer(0);
  #used = 0;
  #spare: Uint8Array | undefined;

  constructor(source: BlockSource) {
    this.#source = source;
  }

  /** @returns exactly `length` bytes, the caller's to keep. */
  *read(offset: number, length: number): Steps<Uint8Array> {
    if (!this.#isNear(length)) return yield* awaited(this.#source.read(offset, length));
    const bytes = this.allocate(length);
    this.#source.readIntoSync?.(bytes, offset);
    return bytes;
  }

  /** Reads into memory of the caller's. */
  *readInto(target: Uint8Array, offset: number): Steps<void> {
    if (this.#isNear(target.byteLength)) this.#source.readIntoSync?.(target, offset);
    else if (this.#source.readInto !== undefined) yield this.#source.readInto(target, offset);
    else target.set(yield* awaited(this.#source.read(offset, target.byteLength)));
  }

  /** Small sequential reads through one large one at a time. */
  ahead(expected: number): ReadAhead {
    const window = this.#spare;
    this.#spare = undefined;
    return new ReadAhead(this, this.#source.sizeBytes, expected, window);
  }

  /** Takes back memory that nobody looks at any more. */
  giveBack(window: Uint8Array): void {
    this.#spare = window;
  }

  /** Memory of zeros for somebody to keep. */
  allocate(length: number): Uint8Array {
    if (length > MAX_CUT_SIZE) return new Uint8Array(length);
    if (this.#used + length > this.#slab.byteLength) {
      this.#slab = new ArrayBuffer(SLAB_SIZE);
      this.#used = 0;
    }
    const bytes = new Uint8Array(this.#slab, this.#used, length);
    this.#used += length;
    return bytes;
  }

  #isNear(length: number): boolean {
    return length <= NEAR_READ_SIZE && this.#source.readIntoSync !== undefined;
  }
}

/** Small sequential reads through one large one at a time, into the same memory again and again. */
export class ReadAhead {
  readonly #reader: ContentReader;
  readonly #sizeBytes: number;
  #left: number;
  #start = 0;
  #length = 0;
  #window: Uint8Array;

  /** @param expected - how many bytes will be read altogether, as far as is known. */
  constructor(reader: ContentReader, sizeBytes: number, expected: number, window: Uint8Array | undefined) {
    this.#reader = reader;
    this.#sizeBytes = sizeBytes;
    this.#left = expected;
    this.#window = window ?? new Uint8Array(0);
  }

  /** @returns exactly `length` bytes, valid until the next call. */
  *read(offset: number, length: number): Steps<Uint8Array> {
    const at = offset - this.#start;
    if (at >= 0 && at + length <= this.#length) return this.#window.subarray(at, at + length);
    const sizeBytes = this.#sizeBytes;
    if (offset + length > sizeBytes) {
      throw new ErofsError("EROFS_TRUNCATED", `expected ${length} bytes, got an image that ends at byte ${sizeBytes}`, {
        offset,
      });
    }
    const size = Math.min(Math.max(length, Math.min(WINDOW_SIZE, this.#left)), sizeBytes - offset);
    this.#left = Math.max(0, this.#left - size);
    this.#length = 0;
    if (this.#window.byteLength < size) this.#window = new Uint8Array(2 ** Math.ceil(Math.log2(size)));
    yield* this.#reader.readInto(this.#window.subarray(0, size), offset);
    this.#start = offset;
    this.#length = size;
    return this.#window.subarray(0, length);
  }

  /** Gives the memory back. */
  end(): void {
    this.#reader.giveBack(this.#window);
    this.#window = new Uint8Array(0);
    this.#length = 0;
  }
}
