import { createHash, timingSafeEqual } from "node:crypto";
import { HASHES } from "../format/oids.ts";
import { concat } from "../internal/bytes.ts";
import type { HashName } from "./scheme.ts";

/** Last octet of every encoded message (RFC 8017 section 9.1.1 step 12). */
const TRAILER = 0xbc;

/**
 * EMSA-PSS-ENCODE of RFC 8017 section 9.1.1 with MGF1 and one hash throughout, from the digest on.
 *
 * @param keyBits - length of the modulus
 * @returns The encoded message, as long as the modulus; undefined when hash and salt do not fit into it.
 */
export function encodePss(
  hash: HashName,
  digest: Uint8Array,
  salt: Uint8Array,
  keyBits: number,
): Uint8Array | undefined {
  const { sizeBytes } = HASHES[hash];
  const { length, unusedBits } = sizesOf(keyBits);
  // Step 3.
  const zeros = length - salt.length - sizeBytes - 2;
  if (zeros < 0) return undefined;
  // Steps 5 to 8.
  const h = hashSalted(hash, digest, salt);
  const db = concat(new Uint8Array(zeros), Uint8Array.of(1), salt);
  // Steps 9 to 11.
  const masked = xor(db, mgf1(hash, h, db.length));
  masked[0] = (masked[0] ?? 0) & (0xff >> unusedBits);
  const encoded = concat(masked, h, Uint8Array.of(TRAILER));
  return concat(new Uint8Array(Math.ceil(keyBits / 8) - length), encoded);
}

/** EMSA-PSS-VERIFY of RFC 8017 section 9.1.2; `encoded` is as long as the modulus. */
export function verifyPss(
  hash: HashName,
  digest: Uint8Array,
  saltBytes: number,
  encoded: Uint8Array,
  keyBits: number,
): boolean {
  const { sizeBytes } = HASHES[hash];
  const { length, unusedBits } = sizesOf(keyBits);
  const before = encoded.length - length;
  const em = encoded.subarray(before);
  // Steps 3 to 6.
  const zeros = length - saltBytes - sizeBytes - 2;
  if (zeros < 0 || encoded.subarray(0, before).some((octet) => octet !== 0) || em.at(-1) !== TRAILER) return false;
  const masked = em.subarray(0, length - sizeBytes - 1);
  const h = em.subarray(length - sizeBytes - 1, length - 1);
  if (((masked[0] ?? 0) & ~(0xff >> unusedBits) & 0xff) !== 0) return false;
  // Steps 7 to 10.
  const db = xor(masked, mgf1(hash, h, masked.length));
  db[0] = (db[0] ?? 0) & (0xff >> unusedBits);
  if (db.subarray(0, zeros).some((octet) => octet !== 0) || db[zeros] !== 1) return false;
  // Steps 11 to 14.
  return timingSafeEqual(h, hashSalted(hash, digest, db.subarray(zeros + 1)));
}

/** Size of an encoded message of `keyBits - 1` bits, and how many bits of its first octet are unused. */
function sizesOf(keyBits: number): { length: number; unusedBits: number } {
  const length = Math.ceil((keyBits - 1) / 8);
  return { length, unusedBits: 8 * length - (keyBits - 1) };
}

function hashSalted(hash: HashName, digest: Uint8Array, salt: Uint8Array): Uint8Array {
  return createHash(hash).update(new Uint8Array(8)).update(digest).update(salt).digest();
}

/** MGF1 of RFC 8017 appendix B.2.1. */
function mgf1(hash: HashName, seed: Uint8Array, length: number): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(length / HASHES[hash].sizeBytes) }, (_, index) => {
    const counter = new Uint8Array(4);
    new DataView(counter.buffer).setUint32(0, index);
    return createHash(hash).update(seed).update(counter).digest();
  });
  return concat(...blocks).subarray(0, length);
}

function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((octet, index) => octet ^ (b[index] ?? 0));
}
