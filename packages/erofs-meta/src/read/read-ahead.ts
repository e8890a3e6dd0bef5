import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";

const WINDOW_SIZE = 1024 * 1024;

/** Small sequential reads through one large one at a time. */
export class ReadAhead {
  readonly #source: BlockSource;
  #left: number;
  #start = 0;
  #window: Uint8Array = new Uint8Array(0);

  /** @param expected - how many bytes will be read altogether, as far as is known. */
  constructor(source: BlockSource, expected: number) {
    this.#source = source;
    this.#left = expected;
  }

  /** @returns exactly `length` bytes, valid for as long as the caller likes. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const at = offset - this.#start;
    if (at >= 0 && at + length <= this.#window.byteLength) return this.#window.subarray(at, at + length);
    const { sizeBytes } = this.#source;
    if (offset + length > sizeBytes) {
      throw new ErofsError("EROFS_TRUNCATED", `expected ${length} bytes, got an image that ends at byte ${sizeBytes}`, {
        offset,
      });
    }
    const size = Math.min(Math.max(length, Math.min(WINDOW_SIZE, this.#left)), sizeBytes - offset);
    this.#left = Math.max(0, this.#left - size);
    this.#window = await this.#source.read(offset, size);
    this.#start = offset;
    return this.#window.subarray(0, length);
  }
}
