import { DiskImageError } from "../errors.ts";

/** A `DataView` over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A copy that may be changed: `slice` of a `Buffer` is none. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}

/** Refuses input that is too short to hold `what`. */
export function assertLength(bytes: Uint8Array, needed: number, what: string, offset: number): void {
  if (bytes.byteLength < needed) {
    throw new DiskImageError("DISK_TRUNCATED", `expected ${needed} bytes of ${what}, got ${bytes.byteLength}`, {
      offset,
    });
  }
}

/** Tells whether there is nothing but zeros: the first byte is one, and every other equals the one before it. */
export function isZero(bytes: Uint8Array): boolean {
  if (bytes.byteLength === 0) return true;
  return bytes[0] === 0 && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
