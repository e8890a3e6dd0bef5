// Errors
export { UkiSignError, type UkiSignErrorCode, type UkiSignErrorDetails } from "./errors.ts";
// Keys
export { decodePem, encodePem, type PemBlock } from "./pem.ts";
export {
  encodeDigestInfo,
  type HashName,
  MAX_RSA_BITS,
  MIN_RSA_BITS,
  type PemSigner,
  type PemSignerOptions,
  pemSigner,
  type Signer,
} from "./signer.ts";
