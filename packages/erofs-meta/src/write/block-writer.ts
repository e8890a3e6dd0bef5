import type { ByteSink } from "../block-source.ts";
import { ErofsError } from "../errors.ts";

/** Bytes gathered before they are written. */
const BUFFER_SIZE = 1024 * 1024;
/** Block addresses are 32 bits wide, and the highest means a hole. */
const MAX_BLOCKS = 0xffffffff;

/** Writes blocks one after another in large pieces. */
export class BlockWriter {
  readonly #sink: ByteSink;
  readonly #blockSize: number;
  readonly #buffer = new Uint8Array(BUFFER_SIZE);
  #filled = 0;
  /** bytes written or gathered, from the start of the image */
  #position: number;

  constructor(sink: ByteSink, blockSize: number, firstBlock: number) {
    this.#sink = sink;
    this.#blockSize = blockSize;
    this.#position = firstBlock * blockSize;
  }

  /** The block that comes next; only meaningful at the start of one. */
  get block(): number {
    return this.#position / this.#blockSize;
  }

  /** Position in the image in `bytes`. */
  get position(): number {
    return this.#position;
  }

  /** Appends bytes, which the caller may reuse afterwards. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#position + bytes.byteLength > MAX_BLOCKS * this.#blockSize) {
      throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected an image of at most ${MAX_BLOCKS} blocks, got more`);
    }
    for (let from = 0; from < bytes.byteLength; ) {
      const count = Math.min(bytes.byteLength - from, BUFFER_SIZE - this.#filled);
      this.#buffer.set(bytes.subarray(from, from + count), this.#filled);
      this.#filled += count;
      this.#position += count;
      from += count;
      if (this.#filled === BUFFER_SIZE) await this.flush();
    }
  }

  /** Fills the block with zeros. */
  async pad(): Promise<void> {
    const over = this.#position % this.#blockSize;
    if (over > 0) await this.write(new Uint8Array(this.#blockSize - over));
  }

  /** Hands on what was gathered. */
  async flush(): Promise<void> {
    if (this.#filled === 0) return;
    await this.#sink.write(this.#position - this.#filled, this.#buffer.subarray(0, this.#filled));
    this.#filled = 0;
  }
}
