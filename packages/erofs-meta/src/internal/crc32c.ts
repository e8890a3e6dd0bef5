const POLYNOMIAL = 0x82f63b78;

const TABLE = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value;
});

/**
 * Continues a CRC-32C (Castagnoli, RFC 3720 appendix B.4, reflected). EROFS starts with all ones and, unlike iSCSI,
 * stores the register without a final inversion.
 */
export function crc32c(register: number, bytes: Uint8Array): number {
  let value = register;
  for (const byte of bytes) value = (value >>> 8) ^ (TABLE[(value ^ byte) & 0xff] ?? 0);
  return value >>> 0;
}
