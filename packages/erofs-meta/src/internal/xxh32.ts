const PRIMES = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1] as const;
const STRIPE = 16;

/**
 * The 32-bit xxHash of a short text.
 *
 * @see xxHash specification 0.1.1, "XXH32 algorithm description"
 */
export function xxh32(input: Uint8Array, seed: number): number {
  const [p1, p2, p3, p4, p5] = PRIMES;
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const { byteLength } = input;
  let at = 0;
  let hash = (seed + p5) | 0;
  if (byteLength >= STRIPE) {
    const lanes = [seed + p1 + p2, seed + p2, seed, seed - p1].map((lane) => lane | 0);
    for (; at + STRIPE <= byteLength; at += STRIPE) {
      for (const [index, lane] of lanes.entries()) {
        const mixed = (lane + Math.imul(view.getUint32(at + index * 4, true), p2)) | 0;
        lanes[index] = Math.imul(rotate(mixed, 13), p1);
      }
    }
    hash = lanes.reduce((sum, lane, index) => (sum + rotate(lane, [1, 7, 12, 18][index] ?? 0)) | 0, 0);
  }
  hash = (hash + byteLength) | 0;
  for (; at + 4 <= byteLength; at += 4) {
    hash = Math.imul(rotate((hash + Math.imul(view.getUint32(at, true), p3)) | 0, 17), p4);
  }
  for (; at < byteLength; at += 1) hash = Math.imul(rotate((hash + Math.imul(input[at] ?? 0, p5)) | 0, 11), p1);
  hash = Math.imul(hash ^ (hash >>> 15), p2);
  hash = Math.imul(hash ^ (hash >>> 13), p3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
