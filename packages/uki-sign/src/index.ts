// Errors

// Certificates
export {
  type Certificate,
  certificateKey,
  DEFAULT_MAX_CERTIFICATE_BYTES,
  decodeCertificate,
  KEY_USAGES,
  type KeyUsage,
} from "./certificate.ts";
export {
  assertKeyMatches,
  type CertificateSubject,
  type CreateCertificateOptions,
  createCertificate,
} from "./certificate-create.ts";
export {
  DEFAULT_MAX_CHAIN_CANDIDATES,
  DEFAULT_MAX_CHAIN_LENGTH,
  isSignedBy,
  type VerifyChainOptions,
  verifyChain,
} from "./chain.ts";
// CMS
export { type CmsAttribute, DEFAULT_MAX_CMS_CONTENT_BYTES, type SignCmsOptions, signCms } from "./cms.ts";
export {
  type CmsSignedData,
  type CmsSigner,
  type CmsSignerIdentifier,
  DEFAULT_MAX_CMS_ATTRIBUTES,
  DEFAULT_MAX_CMS_BYTES,
  DEFAULT_MAX_CMS_CERTIFICATES,
  DEFAULT_MAX_CMS_SIGNERS,
  decodeCms,
} from "./cms-decode.ts";
export { type VerifiedCms, type VerifiedSigner, type VerifyCmsOptions, verifyCms } from "./cms-verify.ts";
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
