import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { BoundedMap } from "../internal/bounded-map.ts";

const WINDOW_SIZE = 128 * 1024;
const MAX_WINDOWS = 128;

/**
 * Small reads of metadata through a bounded cache of large ones: an inode costs a map look-up instead of a read.
 * The oldest window goes first; walks are mostly sequential, so a recency list would not earn its cost.
 */
export class MetadataCache {
  readonly #source: BlockSource;
  readonly #windows = new BoundedMap<number, Uint8Array>(MAX_WINDOWS);

  constructor(source: BlockSource) {
    this.#source = source;
  }

  /** @returns exactly `length` bytes, possibly aliasing the cache. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const end = offset + length;
    if (offset < 0 || end > this.#source.sizeBytes) {
      const message = `expected ${length} bytes, got an image that ends at byte ${this.#source.sizeBytes}`;
      throw new ErofsError("EROFS_TRUNCATED", message, { offset });
    }
    const first = Math.floor(offset / WINDOW_SIZE);
    const start = first * WINDOW_SIZE;
    if (end <= start + WINDOW_SIZE) {
      const window = this.#windows.get(first) ?? (await this.#load(first));
      return window.subarray(offset - start, end - start);
    }
    if (length > WINDOW_SIZE) return this.#source.read(offset, length);
    const joined = new Uint8Array(length);
    const head = await this.read(offset, start + WINDOW_SIZE - offset);
    joined.set(head);
    joined.set(await this.read(start + WINDOW_SIZE, length - head.byteLength), head.byteLength);
    return joined;
  }

  async #load(index: number): Promise<Uint8Array> {
    const start = index * WINDOW_SIZE;
    const window = await this.#source.read(start, Math.min(WINDOW_SIZE, this.#source.sizeBytes - start));
    this.#windows.set(index, window);
    return window;
  }
}
