import { HASHES } from "../format/oids.ts";
import { derNull, derOctetString, derOid, derSequence } from "../internal/der.ts";
import type { HashName } from "./scheme.ts";

/**
 * The DigestInfo that RSASSA-PKCS1-v1_5 pads and signs, for signers that do that step outside of this package.
 *
 * @param hash - Algorithm that made the digest.
 * @param digest - The digest.
 * @returns DER of `SEQUENCE { AlgorithmIdentifier, OCTET STRING }`.
 * @throws {TypeError} When the digest has the wrong length for `hash`.
 * @see RFC 8017 section 9.2
 */
export function encodeDigestInfo(hash: HashName, digest: Uint8Array): Uint8Array {
  const { oid, sizeBytes } = HASHES[hash];
  if (digest.length !== sizeBytes) {
    throw new TypeError(`expected a ${hash} digest of ${sizeBytes} bytes, got ${digest.length}`);
  }
  return derSequence(derSequence(derOid(oid), derNull()), derOctetString(digest));
}
