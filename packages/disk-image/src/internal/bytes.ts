import { DiskImageError } from "../errors.ts";

export { isZero, viewOf } from "@leveret/block-source";

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

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
