/** A `DataView` over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const ZEROS: Buffer = Buffer.alloc(64 * 1024);

/** Whether bytes, or a part of them, are all zero. */
export function isZero(bytes: Uint8Array, start = 0, stop: number = bytes.byteLength): boolean {
  // Most content says no at once.
  if (start < stop && bytes[start] !== 0) return false;
  for (let at = start; at < stop; at += ZEROS.byteLength) {
    const end = Math.min(stop, at + ZEROS.byteLength);
    if (ZEROS.compare(bytes, at, end, 0, end - at) !== 0) return false;
  }
  return true;
}
