import { type Bytes, readBytes, sizeOf } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { viewOf } from "../internal/bytes.ts";

/** How much of a source is read for one field, in bytes: headers are next to each other. */
const WINDOW_BYTES = 16 * 1024;

/** Bounds-checked little-endian reads of a PE image; `what` names the field in the error. */
export class ByteView {
  readonly length: number;
  readonly #image: Bytes;
  #window: Uint8Array;
  #view: DataView;
  /** position of the window in the image */
  #start = 0;

  constructor(image: Bytes) {
    this.length = sizeOf(image);
    this.#image = image;
    this.#window = image instanceof Uint8Array ? image : new Uint8Array();
    this.#view = viewOf(this.#window);
  }

  /** Throws unless `size` bytes at `offset` are inside. */
  need(offset: number, size: number, what: string): void {
    if (offset + size <= this.length) return;
    throw new UkiSignError(
      "UKI_SIGN_PE_TRUNCATED",
      `expected ${what} in bytes ${offset}..${offset + size}, got a file of ${this.length} bytes`,
      { offset },
    );
  }

  u16(offset: number, what: string): number {
    const at = this.#locate(offset, 2, what);
    return this.#view.getUint16(at, true);
  }

  u32(offset: number, what: string): number {
    const at = this.#locate(offset, 4, what);
    return this.#view.getUint32(at, true);
  }

  u64(offset: number, what: string): bigint {
    const at = this.#locate(offset, 8, what);
    return this.#view.getBigUint64(at, true);
  }

  latin1(offset: number, size: number, what: string): string {
    const at = this.#locate(offset, size, what);
    return String.fromCharCode(...this.#window.subarray(at, at + size));
  }

  /** Where a field is in the window, which moves when it is elsewhere. */
  #locate(offset: number, size: number, what: string): number {
    this.need(offset, size, what);
    if (offset < this.#start || offset + size > this.#start + this.#window.length) {
      this.#window = readBytes(this.#image, offset, Math.min(WINDOW_BYTES, this.length - offset));
      this.#view = viewOf(this.#window);
      this.#start = offset;
    }
    return offset - this.#start;
  }
}
