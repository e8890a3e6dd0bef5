/**
 * Object identifiers of RFC 5280 (X.509), RFC 5652 and RFC 5754 (CMS), RFC 8017 (RSA) and Microsoft's Authenticode.
 */
export const OID = {
  data: "1.2.840.113549.1.7.1",
  signedData: "1.2.840.113549.1.7.2",
  contentType: "1.2.840.113549.1.9.3",
  messageDigest: "1.2.840.113549.1.9.4",
  signingTime: "1.2.840.113549.1.9.5",
  rsaEncryption: "1.2.840.113549.1.1.1",
  sha256WithRsa: "1.2.840.113549.1.1.11",
  sha384WithRsa: "1.2.840.113549.1.1.12",
  sha512WithRsa: "1.2.840.113549.1.1.13",
  rsassaPss: "1.2.840.113549.1.1.10",
  mgf1: "1.2.840.113549.1.1.8",
  ecPublicKey: "1.2.840.10045.2.1",
  sha256: "2.16.840.1.101.3.4.2.1",
  sha384: "2.16.840.1.101.3.4.2.2",
  sha512: "2.16.840.1.101.3.4.2.3",
  commonName: "2.5.4.3",
  countryName: "2.5.4.6",
  localityName: "2.5.4.7",
  stateOrProvinceName: "2.5.4.8",
  organizationName: "2.5.4.10",
  organizationalUnitName: "2.5.4.11",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  codeSigning: "1.3.6.1.5.5.7.3.3",
  /** Microsoft SPC_INDIRECT_DATA_OBJID: eContentType of an Authenticode signature */
  spcIndirectData: "1.3.6.1.4.1.311.2.1.4",
} as const;

/** Hash algorithms a signature of this package may use, with their identifiers and sizes. */
export const HASHES = {
  sha256: { oid: OID.sha256, rsaOid: OID.sha256WithRsa, sizeBytes: 32 },
  sha384: { oid: OID.sha384, rsaOid: OID.sha384WithRsa, sizeBytes: 48 },
  sha512: { oid: OID.sha512, rsaOid: OID.sha512WithRsa, sizeBytes: 64 },
} as const;
