import { constants, type KeyObject, publicDecrypt } from "node:crypto";
import { encodeDigestInfo } from "./pkcs1.ts";
import { verifyPss } from "./pss.ts";
import type { RsaScheme } from "./scheme.ts";

/**
 * RSA verification from the digest on. For RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.2) the encoded message is recovered,
 * and compared as a whole with the only one that is right, never parsed.
 */
export function verifyDigest(key: KeyObject, scheme: RsaScheme, digest: Uint8Array, signature: Uint8Array): boolean {
  const { hash, padding, saltBytes } = scheme;
  try {
    if (padding === "pss") {
      const encoded = publicDecrypt({ key, padding: constants.RSA_NO_PADDING }, signature);
      return verifyPss(hash, digest, saltBytes, encoded, key.asymmetricKeyDetails?.modulusLength ?? 0);
    }
    const recovered = publicDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, signature);
    return Buffer.compare(recovered, encodeDigestInfo(hash, digest)) === 0;
  } catch {
    // Wrong length, number out of range, wrong padding: OpenSSL throws where a verifier says no.
    return false;
  }
}
