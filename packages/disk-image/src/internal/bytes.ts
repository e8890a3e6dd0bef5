import { DiskImageError } from "../errors.ts";

/** A `DataView` over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Refuses input that is too short to hold `what`. */
export function assertLength(bytes: Uint8Array, needed: number, what: string, offset: number): void {
  if (bytes.byteLength < needed) {
    throw new DiskImageError("DISK_TRUNCATED", `expected ${needed} bytes of ${what}, got ${bytes.byteLength}`, {
      offset,
    });
  }
}

export function isZero(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte !== 0) return false;
  return true;
}

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
