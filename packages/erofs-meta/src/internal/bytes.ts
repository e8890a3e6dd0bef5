import { ErofsError } from "../errors.ts";

export { isZero, viewOf } from "@leveret/block-source";

/** Refuses input that is too short to hold `what`. */
export function assertLength(bytes: Uint8Array, needed: number, what: string, offset: number): void {
  if (bytes.byteLength < needed) {
    throw new ErofsError("EROFS_TRUNCATED", `expected ${needed} bytes of ${what}, got ${bytes.byteLength}`, { offset });
  }
}

/** Narrows an on-disk 64-bit value that is about to be used as a position. */
export function safeNumber(value: bigint, what: string, offset: number): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ErofsError("EROFS_CORRUPT", `expected ${what} below 2^53, got ${value}`, { offset });
  }
  return Number(value);
}

export function formatUuid(bytes: Uint8Array): string {
  const hex = toHex(bytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The UUID that the first 16 bytes of a digest are, but for the bits that say what kind of UUID it is. */
export function derivedUuid(digest: Uint8Array): string {
  const bytes = Uint8Array.from(digest.subarray(0, 16));
  // RFC 9562, version 8: the other bits are the application's own.
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return formatUuid(bytes);
}

export function parseUuid(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex"));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
