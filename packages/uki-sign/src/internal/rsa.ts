import { constants, type KeyObject, publicDecrypt } from "node:crypto";
import { encodeDigestInfo, type HashName } from "../keys/signer.ts";

/**
 * RSASSA-PKCS1-v1_5 verification from the digest on (RFC 8017 section 8.2.2): the encoded message is recovered, and
 * compared as a whole with the only one that is right, never parsed.
 */
export function verifyDigest(key: KeyObject, hash: HashName, digest: Uint8Array, signature: Uint8Array): boolean {
  try {
    const recovered = publicDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, signature);
    return Buffer.compare(recovered, encodeDigestInfo(hash, digest)) === 0;
  } catch {
    // Wrong length, number out of range, wrong padding: OpenSSL throws where a verifier says no.
    return false;
  }
}
