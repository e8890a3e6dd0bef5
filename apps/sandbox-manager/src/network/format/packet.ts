import { SandboxError } from "../../errors.ts";

/** The Internet checksum: the ones' complement sum of 16-bit words. @see RFC 1071, section 1 */
export function checksum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  const even = bytes.length & ~1;
  for (let at = 0; at < even; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  if (even !== bytes.length) sum += (bytes[even] ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** The sum that TCP and UDP begin with, over what they take from the IP header. @see RFC 9293, section 3.1 */
export function pseudoHeaderSum(source: number, destination: number, protocol: number, length: number): number {
  const words = [source >>> 16, source & 0xffff, destination >>> 16, destination & 0xffff, protocol, length];
  return words.reduce((sum, word) => sum + word, 0);
}

/** Refuses bytes of a guest that are not what they ought to be. */
export function malformed(expected: string, actual: unknown): SandboxError {
  return new SandboxError("SANDBOX_NETWORK_MALFORMED", `expected ${expected}, got ${actual}`);
}

/** Reads whole numbers, most significant byte first, after looking whether they are there. */
export function viewOf(bytes: Uint8Array, what: string, minBytes: number): DataView {
  if (bytes.length < minBytes) throw malformed(`at least ${minBytes} bytes of ${what}`, bytes.length);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** `10.0.0.1`, of a number */
export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}

/** A number, of what is known to be an IPv4 address. */
export function ipv4Number(text: string): number {
  return text.split(".").reduce((number, part) => number * 256 + Number(part), 0);
}
