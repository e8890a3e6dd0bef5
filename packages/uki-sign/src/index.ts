// Errors

export { UkiSignError, type UkiSignErrorCode, type UkiSignErrorDetails } from "./errors.ts";

// Bytes in files

export { type ByteSource, type Bytes, type FileSource, fileSource, readBytes } from "./bytes/byte-source.ts";

// PE images

export {
  DEFAULT_MAX_PE_SECTIONS,
  decodePe,
  findPeSection,
  type PeDirectory,
  type PeImage,
  type PeSection,
  peSectionSource,
  readPeSection,
} from "./pe/image.ts";
export { type AddPeSectionsOptions, addPeSections, type NewPeSection } from "./pe/sections.ts";

// Authenticode

export { type FindAuthorityOptions, findAuthority } from "./authenticode/authority.ts";
export {
  attachSignature,
  DEFAULT_MAX_SIGNATURE_TABLE_BYTES,
  DEFAULT_MAX_SIGNATURES,
  listSignatures,
  type PeSignature,
  removeSignatures,
} from "./authenticode/certificate-table.ts";
export { type DecodedSignatureDatabase, signatureDatabase } from "./authenticode/database.ts";
export { type AuthenticodeDigestOptions, authenticodeDigest } from "./authenticode/digest.ts";
export { decodeIndirectData, encodeIndirectData, type IndirectData } from "./authenticode/indirect-data.ts";
export { type SignPeOptions, signPe } from "./authenticode/sign.ts";
export {
  type ExaminedSignature,
  examineSignatures,
  type PeSignatureDatabase,
  type VerifiedPe,
  type VerifyPeOptions,
  verifyPe,
} from "./authenticode/verify.ts";
export { type WritePeOptions, writePe } from "./authenticode/write.ts";

// Unified kernel images

export { buildUkiAddon, buildUkiProfile } from "./uki/addon.ts";
export { assembleUki, buildUki } from "./uki/build.ts";
export { encodeUkiFirmware } from "./uki/firmware.ts";
export {
  DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES,
  decodeHardwareIds,
  encodeHardwareIds,
  type HardwareDescription,
  type HardwareField,
  type HardwareId,
  hardwareIds,
  parseHardwareDescription,
} from "./uki/hardware-ids.ts";
export {
  inspectUki,
  type MeasuredSection,
  type MeasuredSectionsOptions,
  measuredSections,
  type UkiInspection,
  type UkiProfile,
  type UkiSection,
} from "./uki/inspect.ts";
export { DEFAULT_MAX_KERNEL_BYTES, readKernelRelease, unpackKernel } from "./uki/kernel.ts";
export type { BuildUkiAddonOptions, BuildUkiOptions, BuildUkiProfileOptions } from "./uki/parts.ts";
export { assembleUkiWithPolicies, type UkiPolicySigner } from "./uki/policies.ts";
export type { ProfileDescription } from "./uki/profiles.ts";
export { mergeSbat } from "./uki/sbat.ts";
export { DEFAULT_MAX_TEXT_BYTES } from "./uki/section-content.ts";

// Measurement

export {
  BOOT_PHASES,
  type Pcr11Prediction,
  type PredictPcr11Options,
  predictPcr11,
  predictPcr11Measurements,
  predictPcr11Table,
} from "./pcr/predict-pcr11.ts";
export { PCR_BANKS, type PcrBank } from "./pcr/register.ts";

// PCR policies

export {
  attachPcrSignatures,
  BOOT_PHASE_PATHS,
  PCR_POLICY_BANKS,
  type PcrPolicy,
  type PredictPcrPoliciesOptions,
  pcrPolicyDigest,
  predictPcrPolicies,
  signPcrPolicies,
  verifyPcrSignature,
} from "./pcr/policy.ts";
export {
  DEFAULT_MAX_PCR_SIGNATURES_BYTES,
  type PcrSignature,
  parsePcrSignatures,
  renderPcrSignatures,
} from "./pcr/policy-signature.ts";

// TCG event logs and predictions

export { type BootProgram, type PredictPcr4Options, predictPcr4 } from "./pcr/predict-pcr4.ts";
export { DEFAULT_MAX_GPT_ENTRIES_BYTES, type PredictPcr5Options, predictPcr5 } from "./pcr/predict-pcr5.ts";
export { type PredictPcr7Options, predictPcr7, type SecureBootVariableValues } from "./pcr/predict-pcr7.ts";
export type { PcrMeasurement, PcrPrediction } from "./pcr/prediction.ts";
export { decodeEventContent, describeEvent, type EventContent, isContentMeasured } from "./tcg/event-content.ts";
export {
  DEFAULT_MAX_EVENT_LOG_ALGORITHMS,
  DEFAULT_MAX_EVENT_LOG_BYTES,
  DEFAULT_MAX_EVENTS,
  decodeEventLog,
  type EventLog,
  type EventLogAlgorithm,
  type TcgEvent,
} from "./tcg/event-log.ts";
export {
  DEFAULT_MAX_PREDICTED_MEASUREMENTS,
  type ExplainedMeasurement,
  explainPcr,
  type PcrExplanation,
} from "./tcg/explain.ts";
export { predictPcrFromLog } from "./tcg/from-log.ts";
export { type ReplayedPcr, replayEventLog } from "./tcg/replay.ts";
export { decodeUserspaceLog, replayUserspaceLog, type UserspaceEvent } from "./tcg/userspace-log.ts";

// RSA signatures

export { encodeDigestInfo } from "./rsa/pkcs1.ts";
export type { HashName, RsaPadding, RsaScheme } from "./rsa/scheme.ts";

// Keys

export { decodePem, encodePem, type PemBlock } from "./keys/pem.ts";
export {
  MAX_RSA_BITS,
  MIN_RSA_BITS,
  type PemSigner,
  type PemSignerOptions,
  pemSigner,
  type Signer,
} from "./keys/signer.ts";

// Keys on PKCS#11 tokens

export { DEFAULT_MAX_PKCS11_ANSWER_BYTES } from "./pkcs11/connection.ts";
export {
  DEFAULT_PKCS11_TIMEOUT_MS,
  type Pkcs11Options,
  type Pkcs11Signer,
  pkcs11Certificate,
  pkcs11Signer,
} from "./pkcs11/signer.ts";
export { DEFAULT_MAX_PKCS11_URI_LENGTH, type Pkcs11Uri, parsePkcs11Uri } from "./pkcs11/uri.ts";

// Keys on other machines

export {
  DEFAULT_MAX_REMOTE_DIGESTS,
  DEFAULT_MAX_REMOTE_MESSAGE_BYTES,
  DEFAULT_MAX_REMOTE_OUTCOMES,
  DEFAULT_MAX_REMOTE_REQUESTS,
  DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT,
  type DigestToSign,
  type SigningDescription,
  type SigningRequest,
} from "./remote/protocol.ts";
export type { SigningEvent } from "./remote/requests.ts";
export {
  DEFAULT_SIGNING_REQUEST_EXPIRY_MS,
  type SigningServer,
  type SigningServerOptions,
  startSigningServer,
} from "./remote/server.ts";
export {
  DEFAULT_REMOTE_BUSY_TIMEOUT_MS,
  type DescribePeOptions,
  decideSigningRequest,
  describePe,
  listSigningRequests,
  type RemoteSigner,
  type RemoteSignerOptions,
  remoteSigner,
} from "./remote/signer.ts";

// Key hierarchies

export { type ExportKeysOptions, exportKeys } from "./keys/export.ts";
export { DEFAULT_KEY_BITS, DEFAULT_VALIDITY_YEARS, type GenerateKeysOptions, generateKeys } from "./keys/generate.ts";
export { type LoadKeysOptions, loadKeys, type PassphraseSource } from "./keys/load.ts";
export { KEY_ROLES, type KeyRole, type KeySet } from "./keys/roles.ts";
export { type KeyRotation, type RotateKeysOptions, rotateKeys } from "./keys/rotate.ts";

// Certificates

export {
  type Certificate,
  certificateKey,
  DEFAULT_MAX_CERTIFICATE_BYTES,
  decodeCertificate,
  KEY_USAGES,
  type KeyUsage,
} from "./x509/certificate.ts";
export {
  DEFAULT_MAX_CHAIN_CANDIDATES,
  DEFAULT_MAX_CHAIN_LENGTH,
  DEFAULT_MAX_CHAIN_SIGNATURES,
  isSignedBy,
  type VerifyChainOptions,
  verifyChain,
} from "./x509/chain.ts";
export {
  assertKeyMatches,
  type CertificateSubject,
  type CreateCertificateOptions,
  createCertificate,
} from "./x509/create.ts";

// CMS

export {
  type CmsSignedData,
  type CmsSigner,
  type CmsSignerIdentifier,
  DEFAULT_MAX_CMS_ATTRIBUTES,
  DEFAULT_MAX_CMS_BYTES,
  DEFAULT_MAX_CMS_CERTIFICATES,
  DEFAULT_MAX_CMS_SIGNERS,
  decodeCms,
} from "./cms/decode.ts";
export { type CmsAttribute, DEFAULT_MAX_CMS_CONTENT_BYTES, type SignCmsOptions, signCms } from "./cms/sign.ts";
export { type VerifiedCms, type VerifiedSigner, type VerifyCmsOptions, verifyCms } from "./cms/verify.ts";

// Secure Boot variables

export {
  type AuthenticatedVariable,
  DEFAULT_MAX_AUTHENTICATED_VARIABLE_BYTES,
  decodeAuthenticatedVariable,
  SECURE_BOOT_VARIABLE_ATTRIBUTES,
  SECURE_BOOT_VARIABLES,
  type SecureBootVariable,
  type SignVariableOptions,
  secureBootVariableGuid,
  signVariable,
  type VariableIdentity,
  verifyVariable,
} from "./efi/authenticated-variable.ts";
export { assertDbxSpares, type InUse } from "./efi/dbx-guard.ts";
export { type EnrollVariableStoreOptions, enrollVariableStore } from "./efi/enroll.ts";
export { decodeGuid, encodeGuid, isGuid } from "./efi/guid.ts";
export {
  certificateLists,
  DEFAULT_MAX_SIGNATURE_DATABASE_BYTES,
  decodeSignatureLists,
  type EfiSignature,
  encodeSignatureDatabase,
  encodeSignatureLists,
  type SignatureDatabase,
  type SignatureList,
  type SignatureType,
} from "./efi/signature-list.ts";
export type { SignedUpdate } from "./efi/signed-update.ts";
export {
  DEFAULT_MAX_STORED_VARIABLES,
  DEFAULT_MAX_VARIABLE_STORE_BYTES,
  decodeVariableStore,
  encodeVariableStore,
  type StoredVariable,
  type VariableStore,
} from "./efi/variable-store.ts";

// Verity root hash signatures

export {
  DEFAULT_MAX_VERITY_SIGNATURE_BYTES,
  decodeVeritySignaturePartition,
  encodeVeritySignaturePartition,
  type SignRootHashOptions,
  signRootHash,
  VERITY_SIGNATURE_PARTITION_BYTES,
  type VeritySignature,
  verifyRootHash,
  verifyVeritySignaturePartition,
} from "./verity/signature.ts";
