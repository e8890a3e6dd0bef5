import { UkiSignError } from "../errors.ts";
import { HASHES, OID } from "../format/oids.ts";
import {
  contextConstructed,
  contextPrimitive,
  type DerElement,
  DerReader,
  der,
  into,
  readInteger,
  readOid,
  TAG,
} from "../internal/der.ts";
import { decodeSignatureAlgorithm, HASH_NAMES, type HashName, type RsaScheme, schemeOf } from "../rsa/scheme.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";
import { decodeName } from "../x509/name.ts";
import type { CmsAttribute } from "./sign.ts";

/** Longest signature that is decoded, embedded content included, in bytes. */
export const DEFAULT_MAX_CMS_BYTES = 17 * 1024 * 1024;

/** Most embedded certificates that are decoded. */
export const DEFAULT_MAX_CMS_CERTIFICATES = 64;

/** Most signers that are decoded. */
export const DEFAULT_MAX_CMS_SIGNERS = 16;

/** Most attributes of one signer that are decoded, signed and unsigned ones each. */
export const DEFAULT_MAX_CMS_ATTRIBUTES = 64;

/** A decoded SignedData; byte arrays alias the input. */
export interface CmsSignedData {
  /** dotted object identifier of the content's type */
  readonly contentType: string;
  /** what {@link signCms} takes as `content`; undefined when detached */
  readonly content: Uint8Array | undefined;
  /** the octets that are hashed: `content`, or its octets without tag and length; undefined when detached */
  readonly contentOctets: Uint8Array | undefined;
  /** embedded certificates, in order; nothing is trusted because of being here */
  readonly certificates: readonly Certificate[];
  readonly signers: readonly CmsSigner[];
}

/** One signer of a {@link CmsSignedData}. */
export interface CmsSigner {
  /** how the signer's certificate is named */
  readonly identifier: CmsSignerIdentifier;
  readonly hash: HashName;
  /** how the digest was signed */
  readonly scheme: RsaScheme;
  /** undefined for a signature over the content alone */
  readonly signedAttributes: readonly CmsAttribute[] | undefined;
  /** the signed attributes in the form that is hashed; undefined without them */
  readonly signedAttributesDer: Uint8Array | undefined;
  readonly signature: Uint8Array;
  readonly unsignedAttributes: readonly CmsAttribute[];
}

/** Names a certificate by issuer and serial number, or by its subjectKeyIdentifier. */
export type CmsSignerIdentifier =
  | {
      readonly kind: "issuerAndSerialNumber";
      /** RFC 4514 text */
      readonly issuer: string;
      /** Name, DER */
      readonly issuerDer: Uint8Array;
      readonly serialNumber: bigint;
    }
  | { readonly kind: "subjectKeyIdentifier"; readonly subjectKeyIdentifier: Uint8Array };

/**
 * Decodes a CMS (PKCS#7) signature. Nothing is verified: see {@link verifyCms}.
 *
 * @param input - DER of a ContentInfo with SignedData, or of a SignedData alone; retained, not modified.
 * @returns The signature's parts, which alias `input`.
 * @throws {UkiSignError} `UKI_SIGN_DER_INVALID` when the structure is wrong, `UKI_SIGN_CMS_INVALID` when it is sound and no
 *   SignedData by RSA with SHA-256, SHA-384 or SHA-512, `UKI_SIGN_TOO_LARGE` when it is longer or has more parts than the
 *   `DEFAULT_MAX_CMS_*` limits.
 * @see RFC 5652 section 5.1
 * @example
 * const { signers } = decodeCms(await readFile("usr.roothash.p7s"));
 */
export function decodeCms(input: Uint8Array): CmsSignedData {
  limit("bytes of signature", input.length, DEFAULT_MAX_CMS_BYTES);
  const signedData = enterSignedData(input);
  const version = readInteger(signedData.next("version", TAG.integer));
  if (version !== 1n && version !== 3n) throw badCms(`expected SignedData version 1 or 3, got ${version}`);
  signedData.next("digestAlgorithms", TAG.set);
  const content = readContent(signedData.enter("encapContentInfo"));
  const certificates = signedData.optional("certificates", contextConstructed(0));
  signedData.optional("crls", contextConstructed(1));
  const signerInfos = signedData.enter("signerInfos", TAG.set);
  signedData.end("SignedData");
  const signers: CmsSigner[] = [];
  while (!signerInfos.done) {
    limit("signers", signers.length + 1, DEFAULT_MAX_CMS_SIGNERS);
    signers.push(readSigner(signerInfos.enter("SignerInfo")));
  }
  return { ...content, certificates: certificates === undefined ? [] : readCertificates(into(certificates)), signers };
}

/** Whether a signer's identifier means this certificate. */
export function isNamedBy(certificate: Certificate, identifier: CmsSignerIdentifier): boolean {
  if (identifier.kind === "issuerAndSerialNumber") {
    const { serialNumber, issuerDer } = identifier;
    return certificate.serialNumber === serialNumber && Buffer.compare(certificate.issuerDer, issuerDer) === 0;
  }
  const { subjectKeyIdentifier } = certificate;
  return (
    subjectKeyIdentifier !== undefined && Buffer.compare(subjectKeyIdentifier, identifier.subjectKeyIdentifier) === 0
  );
}

function enterSignedData(input: Uint8Array): DerReader {
  const file = new DerReader(input);
  const outer = file.enter("ContentInfo");
  file.end("ContentInfo");
  // A SignedData begins with its version, a ContentInfo with an object identifier.
  if (outer.peek() === TAG.integer) return outer;
  const contentType = readOid(outer.next("contentType", TAG.oid));
  if (contentType !== OID.signedData) throw badCms(`expected SignedData (${OID.signedData}), got ${contentType}`);
  const explicit = outer.enter("content", contextConstructed(0));
  outer.end("ContentInfo");
  const signedData = explicit.enter("SignedData");
  explicit.end("content");
  return signedData;
}

function readContent(reader: DerReader): Pick<CmsSignedData, "contentType" | "content" | "contentOctets"> {
  const contentType = readOid(reader.next("eContentType", TAG.oid));
  const explicit = reader.optional("eContent", contextConstructed(0));
  reader.end("encapContentInfo");
  if (explicit === undefined) return { contentType, content: undefined, contentOctets: undefined };
  const wrapper = into(explicit);
  const element = wrapper.next("eContent", contentType === OID.data ? TAG.octetString : undefined);
  wrapper.end("eContent");
  const contentOctets = element.contents;
  return { contentType, content: contentType === OID.data ? contentOctets : element.bytes, contentOctets };
}

function readCertificates(reader: DerReader): Certificate[] {
  const certificates: Certificate[] = [];
  while (!reader.done) {
    limit("certificates", certificates.length + 1, DEFAULT_MAX_CMS_CERTIFICATES);
    // CertificateChoices: only X.509 certificates are plain SEQUENCEs; no consumer of ours knows the obsolete others.
    certificates.push(decodeCertificate(reader.next("certificate", TAG.sequence).bytes));
  }
  return certificates;
}

function readSigner(reader: DerReader): CmsSigner {
  const version = readInteger(reader.next("SignerInfo version", TAG.integer));
  if (version !== 1n && version !== 3n) throw badCms(`expected SignerInfo version 1 or 3, got ${version}`);
  const identifier = readIdentifier(reader);
  const digestOid = readAlgorithm(reader, "digestAlgorithm");
  const hash = HASH_NAMES.find((name) => HASHES[name].oid === digestOid);
  if (hash === undefined) throw badCms(`expected SHA-256, SHA-384 or SHA-512, got digest algorithm ${digestOid}`);
  const signed = reader.optional("signedAttrs", contextConstructed(0));
  const scheme = readScheme(reader.next("signatureAlgorithm", TAG.sequence), hash);
  const signature = reader.next("signature", TAG.octetString).contents;
  const unsigned = reader.optional("unsignedAttrs", contextConstructed(1));
  reader.end("SignerInfo");
  return {
    identifier,
    hash,
    scheme,
    signedAttributes: signed && readAttributes(signed),
    signedAttributesDer: signed && der(TAG.set, signed.contents),
    signature,
    unsignedAttributes: unsigned === undefined ? [] : readAttributes(unsigned),
  };
}

function readIdentifier(reader: DerReader): CmsSignerIdentifier {
  const key = reader.optional("subjectKeyIdentifier", contextPrimitive(0));
  if (key !== undefined) return { kind: "subjectKeyIdentifier", subjectKeyIdentifier: key.contents };
  const pair = reader.enter("issuerAndSerialNumber");
  const issuer = decodeName(pair.next("issuer", TAG.sequence));
  const serialNumber = readInteger(pair.next("serialNumber", TAG.integer));
  pair.end("issuerAndSerialNumber");
  return { kind: "issuerAndSerialNumber", issuer: issuer.text, issuerDer: issuer.der, serialNumber };
}

function readScheme(algorithm: DerElement, hash: HashName): RsaScheme {
  const oid = readOid(into(algorithm).next("signatureAlgorithm identifier", TAG.oid));
  // RFC 5754 3.2: rsaEncryption, or an identifier that names the hash as well. RFC 4056 3: the same hash in both places.
  const scheme = oid === OID.rsaEncryption ? schemeOf(hash, "pkcs1") : decodeSignatureAlgorithm(algorithm);
  if (scheme?.hash === hash) return scheme;
  throw badCms(`expected RSA with ${hash}, got signature algorithm ${oid}${scheme ? ` with ${scheme.hash}` : ""}`);
}

function readAlgorithm(reader: DerReader, what: string): string {
  return readOid(reader.enter(what).next(`${what} identifier`, TAG.oid));
}

function readAttributes(set: DerElement): CmsAttribute[] {
  const reader = into(set);
  const attributes: CmsAttribute[] = [];
  while (!reader.done) {
    limit("attributes", attributes.length + 1, DEFAULT_MAX_CMS_ATTRIBUTES);
    const pair = reader.enter("attribute");
    const type = readOid(pair.next("attribute type", TAG.oid));
    const list = pair.enter("attribute values", TAG.set);
    pair.end("attribute");
    const values: Uint8Array[] = [];
    while (!list.done) {
      limit("attribute values", values.length + 1, DEFAULT_MAX_CMS_ATTRIBUTES);
      values.push(list.next("attribute value").bytes);
    }
    // RFC 5652 5.3: an attribute appears once. Two readers could otherwise each believe another one.
    if (attributes.some((other) => other.type === type)) throw badCms(`expected attribute ${type} once`);
    attributes.push({ type, values });
  }
  return attributes;
}

function limit(what: string, actual: number, maximum: number): void {
  if (actual <= maximum) return;
  throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected at most ${maximum} ${what}, got ${actual}`);
}

function badCms(message: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_CMS_INVALID", message);
}
