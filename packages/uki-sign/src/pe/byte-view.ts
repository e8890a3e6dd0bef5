import { UkiSignError } from "../errors.ts";

/** Bounds-checked little-endian reads of a PE image; `what` names the field in the error. */
export class ByteView {
  readonly length: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.length = bytes.length;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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
    this.need(offset, 2, what);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number, what: string): number {
    this.need(offset, 4, what);
    return this.#view.getUint32(offset, true);
  }

  u64(offset: number, what: string): bigint {
    this.need(offset, 8, what);
    return this.#view.getBigUint64(offset, true);
  }

  latin1(offset: number, size: number, what: string): string {
    this.need(offset, size, what);
    return String.fromCharCode(...this.#bytes.subarray(offset, offset + size));
  }
}
