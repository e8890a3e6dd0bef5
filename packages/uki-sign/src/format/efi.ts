/**
 * UEFI Specification 2.10: section 8.2 (variables), 32.4.1 (signature database), 32.2.4 (WIN_CERTIFICATE), appendix A (GUID).
 * https://uefi.org/specs/UEFI/2.10/
 */

/** GUIDs in their text form. */
export const EFI_GUID = {
  /** EFI_GLOBAL_VARIABLE: PK, KEK */
  globalVariable: "8be4df61-93ca-11d2-aa0d-00e098032b8c",
  /** EFI_IMAGE_SECURITY_DATABASE_GUID: db, dbx */
  imageSecurityDatabase: "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
  /** EFI_CERT_TYPE_PKCS7_GUID */
  certTypePkcs7: "4aafd29d-68df-49ee-8aa9-347d375665a7",
} as const;

/** Signature types of an EFI_SIGNATURE_LIST, with the size of the data of one signature where it is fixed. */
export const SIGNATURE_TYPES = {
  x509: { guid: "a5c059a1-94e4-4aa7-87b5-ab155c2bf072", sizeBytes: undefined },
  rsa2048: { guid: "3c5766e8-269c-4e34-aa14-ed776e85b3b6", sizeBytes: 256 },
  sha1: { guid: "826ca512-cf10-4ac9-b187-be01496631bd", sizeBytes: 20 },
  sha256: { guid: "c1c41626-504c-4092-aca9-41f936934328", sizeBytes: 32 },
  sha384: { guid: "ff3e5307-9fd0-48c9-85f1-8ad56c701e01", sizeBytes: 48 },
  sha512: { guid: "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a", sizeBytes: 64 },
  /** hash of a TBSCertificate and an EFI_TIME of revocation */
  x509Sha256: { guid: "3bd2a492-96c0-4079-b420-fcf98ef103ed", sizeBytes: 48 },
  x509Sha384: { guid: "7076876e-80c2-4ee6-aad2-28b349a6865b", sizeBytes: 64 },
  x509Sha512: { guid: "446dbf63-2502-4cda-bcfa-2465d2b0fe9d", sizeBytes: 80 },
} as const;

/** Attribute bits of a variable, section 8.2.1. */
export const VARIABLE_ATTRIBUTE = {
  nonVolatile: 0x01,
  bootserviceAccess: 0x02,
  runtimeAccess: 0x04,
  hardwareErrorRecord: 0x08,
  authenticatedWriteAccess: 0x10,
  timeBasedAuthenticatedWriteAccess: 0x20,
  appendWrite: 0x40,
  enhancedAuthenticatedAccess: 0x80,
} as const;

/** EFI_SIGNATURE_LIST: SignatureType 0, SignatureListSize 16, SignatureHeaderSize 20, SignatureSize 24. */
export const SIGNATURE_LIST_HEADER_BYTES = 28;
/** EFI_SIGNATURE_DATA: SignatureOwner 0, SignatureData 16. */
export const SIGNATURE_OWNER_BYTES = 16;

/** EFI_TIME: Year 0, Month 2, Day 3, Hour 4, Minute 5, Second 6, Pad1 7, Nanosecond 8, TimeZone 12, Daylight 14, Pad2 15. */
export const EFI_TIME_BYTES = 16;

/** WIN_CERTIFICATE_UEFI_GUID: dwLength 0, wRevision 4, wCertificateType 6, CertType 8, CertData 24. */
export const WIN_CERTIFICATE_GUID_HEADER_BYTES = 24;
export const WIN_CERTIFICATE_REVISION = 0x0200;
export const WIN_CERTIFICATE_TYPE_EFI_GUID = 0x0ef1;
