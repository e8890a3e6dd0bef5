import type { ByteSink } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import type { Steps } from "../internal/steps.ts";

/** Bytes gathered before they are written. */
const BUFFER_SIZE = 1024 * 1024;
/** Block addresses are 32 bits wide, and the highest means a hole. */
const MAX_BLOCKS = 0xffffffff;

/**
 * Writes blocks in large pieces, one of them being written while the next is gathered. No block may be written twice;
 * those that never are, are zeros.
 */
export class BlockWriter {
  readonly #sink: ByteSink;
  readonly #blockSize: number;
  #buffer = new Uint8Array(BUFFER_SIZE);
  #other = new Uint8Array(BUFFER_SIZE);
  #filled = 0;
  /** where the next bytes go, from the start of the image */
  #position: number;
  /** behind what is written or gathered */
  #end: number;
  #used = 0;
  #writing: Promise<void> | undefined;

  constructor(sink: ByteSink, blockSize: number, firstBlock: number) {
    this.#sink = sink;
    this.#blockSize = blockSize;
    this.#position = firstBlock * blockSize;
    this.#end = this.#position;
  }

  /** Where the next bytes go, from the start of the image in `bytes`. */
  get position(): number {
    return this.#position;
  }

  /** Length of the image so far in `bytes`. */
  get end(): number {
    return this.#end;
  }

  /** How much has been written in `bytes`. */
  get used(): number {
    return this.#used;
  }

  /** Goes on at the start of a block, wherever that is. */
  *moveTo(block: number): Steps<void> {
    const position = block * this.#blockSize;
    if (position === this.#position) return;
    if (this.#filled > 0) yield this.#handOn();
    this.#position = position;
  }

  /** Writes bytes, which the caller may reuse afterwards. */
  *write(bytes: Uint8Array): Steps<void> {
    this.#assertRoom(bytes.byteLength);
    for (let from = 0; from < bytes.byteLength; ) {
      const count = Math.min(bytes.byteLength - from, BUFFER_SIZE - this.#filled);
      const part = count === bytes.byteLength ? bytes : bytes.subarray(from, from + count);
      this.#buffer.set(part, this.#filled);
      this.#advance(count);
      from += count;
      if (this.#filled === BUFFER_SIZE) yield this.#handOn();
    }
  }

  /** Writes zeros. */
  *skip(length: number): Steps<void> {
    this.#assertRoom(length);
    for (let left = length; left > 0; ) {
      const count = Math.min(left, BUFFER_SIZE - this.#filled);
      this.#buffer.fill(0, this.#filled, this.#filled + count);
      this.#advance(count);
      left -= count;
      if (this.#filled === BUFFER_SIZE) yield this.#handOn();
    }
  }

  /** Fills the block with zeros. */
  *pad(): Steps<void> {
    const over = this.#position % this.#blockSize;
    if (over > 0) yield* this.skip(this.#blockSize - over);
  }

  /** Writes what was gathered, and waits until all of it is written. */
  async flush(): Promise<void> {
    if (this.#filled > 0) await this.#handOn();
    await this.#writing;
  }

  /** Waits for what is being written, however it ends. */
  async settle(): Promise<void> {
    await this.#writing?.catch(() => undefined);
  }

  #assertRoom(length: number): void {
    if (this.#position + length > MAX_BLOCKS * this.#blockSize) {
      throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected an image of at most ${MAX_BLOCKS} blocks, got more`);
    }
  }

  #advance(count: number): void {
    this.#filled += count;
    this.#position += count;
    this.#used += count;
    this.#end = Math.max(this.#end, this.#position);
  }

  async #handOn(): Promise<void> {
    await this.#writing;
    this.#writing = this.#sink.write(this.#position - this.#filled, this.#buffer.subarray(0, this.#filled));
    // Whoever waits next gets the failure; until then it must not count as unhandled.
    this.#writing.catch(() => undefined);
    [this.#buffer, this.#other] = [this.#other, this.#buffer];
    this.#filled = 0;
  }
}
