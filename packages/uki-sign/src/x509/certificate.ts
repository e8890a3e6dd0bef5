import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { UkiSignError } from "../errors.ts";
import { OID } from "../format/oids.ts";
import { copyBytes } from "../internal/bytes.ts";
import {
  badDer,
  contextConstructed,
  contextPrimitive,
  type DerElement,
  DerReader,
  into,
  readBitString,
  readBoolean,
  readInteger,
  readOid,
  readTime,
  TAG,
} from "../internal/der.ts";
import { decodePem } from "../keys/pem.ts";
import { MAX_RSA_BITS, MIN_RSA_BITS, requireExponent } from "../keys/signer.ts";
import { decodeSignatureAlgorithm, type RsaScheme } from "../rsa/scheme.ts";
import { type DecodedName, decodeName } from "./name.ts";

/** Longest certificate that is decoded, in bytes. */
export const DEFAULT_MAX_CERTIFICATE_BYTES = 64 * 1024;

/** A decoded X.509 certificate; byte arrays alias `der`. */
export interface Certificate {
  /** the whole certificate, DER, a copy of the input */
  readonly der: Uint8Array;
  /** TBSCertificate, DER: what the issuer signed */
  readonly tbs: Uint8Array;
  readonly serialNumber: bigint;
  /** RFC 4514 text: `CN=leveret db,O=Example` */
  readonly subject: string;
  /** RFC 4514 text */
  readonly issuer: string;
  /** Name, DER */
  readonly subjectDer: Uint8Array;
  /** Name, DER */
  readonly issuerDer: Uint8Array;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SubjectPublicKeyInfo, DER */
  readonly publicKey: Uint8Array;
  /** dotted object identifier of the key's algorithm */
  readonly keyAlgorithm: string;
  /** modulus length in `bits`; undefined for a key that is not RSA */
  readonly keyBits: number | undefined;
  /** dotted object identifier of the issuer's signature algorithm */
  readonly signatureAlgorithm: string;
  /** how the issuer signed; undefined when it is not by RSA with SHA-256, SHA-384 or SHA-512 */
  readonly signatureScheme: RsaScheme | undefined;
  readonly signature: Uint8Array;
  /** basicConstraints cA */
  readonly isCa: boolean;
  /** basicConstraints pathLenConstraint */
  readonly pathLength: number | undefined;
  /** names of keyUsage bits; undefined without the extension */
  readonly keyUsage: readonly KeyUsage[] | undefined;
  /** dotted object identifiers; undefined without the extension */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly subjectKeyIdentifier: Uint8Array | undefined;
  readonly authorityKeyIdentifier: Uint8Array | undefined;
  /** object identifiers of critical extensions that are not understood here */
  readonly unknownCriticalExtensions: readonly string[];
  /** SHA-256 of `der`, lower-case hex */
  readonly fingerprint: string;
}

/** Purposes of RFC 5280 section 4.2.1.3, in bit order. */
export const KEY_USAGES = [
  "digitalSignature",
  "nonRepudiation",
  "keyEncipherment",
  "dataEncipherment",
  "keyAgreement",
  "keyCertSign",
  "cRLSign",
  "encipherOnly",
  "decipherOnly",
] as const;
/** One purpose of a key. */
export type KeyUsage = (typeof KEY_USAGES)[number];

/**
 * Decodes an X.509 certificate.
 *
 * @param input - DER, or PEM with exactly one certificate; copied.
 * @returns The certificate. Nothing is said about trust: see {@link verifyChain}.
 * @throws {UkiSignError} `UKI_SIGN_CERTIFICATE_INVALID` when PEM holds no or several certificates, or the input is longer
 *   than {@link DEFAULT_MAX_CERTIFICATE_BYTES} or of an unknown version; `UKI_SIGN_DER_INVALID` when its structure is wrong.
 * @see RFC 5280 section 4.1
 * @example
 * const { subject, fingerprint } = decodeCertificate(await readFile("db.pem"));
 */
export function decodeCertificate(input: string | Uint8Array): Certificate {
  const der = certificateDer(input);
  if (der.length > DEFAULT_MAX_CERTIFICATE_BYTES) {
    const message = `expected a certificate of at most ${DEFAULT_MAX_CERTIFICATE_BYTES} bytes, got ${der.length}`;
    throw new UkiSignError("UKI_SIGN_CERTIFICATE_INVALID", message);
  }
  const file = new DerReader(der);
  const certificate = file.enter("Certificate");
  file.end("Certificate");
  const tbs = certificate.next("TBSCertificate", TAG.sequence);
  const algorithm = certificate.next("signatureAlgorithm", TAG.sequence);
  const signature = readBitString(certificate.next("signature", TAG.bitString));
  certificate.end("Certificate");
  return {
    der,
    tbs: tbs.bytes,
    ...readTbs(into(tbs), algorithm.bytes),
    signatureAlgorithm: readAlgorithm(algorithm).oid,
    signatureScheme: decodeSignatureAlgorithm(algorithm),
    signature,
    fingerprint: createHash("sha256").update(der).digest("hex"),
  };
}

/**
 * The certificate's public key, for verifying.
 *
 * @throws {UkiSignError} `UKI_SIGN_KEY_UNSUPPORTED` when it is not RSA of 2048 to 8192 bits with an odd public
 *   exponent of 3 to 2^32.
 */
export function certificateKey(certificate: Certificate): KeyObject {
  const { keyAlgorithm, keyBits, publicKey } = certificate;
  if (keyAlgorithm !== OID.rsaEncryption || keyBits === undefined) {
    throw new UkiSignError(
      "UKI_SIGN_KEY_UNSUPPORTED",
      `expected an RSA certificate, got key algorithm ${keyAlgorithm}`,
    );
  }
  if (keyBits < MIN_RSA_BITS || keyBits > MAX_RSA_BITS) {
    const message = `expected an RSA certificate of ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits, got ${keyBits}`;
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", message);
  }
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(publicKey), format: "der", type: "spki" });
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", "expected a usable RSA public key in the certificate", {
      cause,
    });
  }
  requireExponent(key);
  return key;
}

function certificateDer(input: string | Uint8Array): Uint8Array {
  // DER starts with a SEQUENCE tag, which is the digit 0 as text: PEM with that as its first comment is not accepted.
  if (typeof input !== "string" && input[0] === TAG.sequence) return copyBytes(input);
  const blocks = decodePem(input).filter(({ label }) => label === "CERTIFICATE");
  const [block] = blocks;
  if (block === undefined || blocks.length > 1) {
    const message = `expected one certificate in DER or PEM, got ${blocks.length === 0 ? "none" : blocks.length}`;
    throw new UkiSignError("UKI_SIGN_CERTIFICATE_INVALID", message);
  }
  return block.bytes;
}

type TbsFields = Omit<
  Certificate,
  "der" | "tbs" | "signatureAlgorithm" | "signatureScheme" | "signature" | "fingerprint"
>;

function readTbs(tbs: DerReader, outerAlgorithm: Uint8Array): TbsFields {
  readVersion(tbs);
  const serialNumber = readInteger(tbs.next("serialNumber", TAG.integer));
  const algorithm = readAlgorithm(tbs.next("signature", TAG.sequence));
  // RFC 5280 4.1.1.2: both places must name the same algorithm.
  if (Buffer.compare(algorithm.bytes, outerAlgorithm) !== 0) {
    throw new UkiSignError("UKI_SIGN_CERTIFICATE_INVALID", "expected one signature algorithm, got two different ones");
  }
  const issuer = decodeName(tbs.next("issuer", TAG.sequence));
  const validity = tbs.enter("validity");
  const notBefore = readTime(validity, "notBefore");
  const notAfter = readTime(validity, "notAfter");
  validity.end("validity");
  const subject = decodeName(tbs.next("subject", TAG.sequence));
  const publicKey = readPublicKey(tbs.next("subjectPublicKeyInfo", TAG.sequence));
  tbs.optional("issuerUniqueID", contextPrimitive(1));
  tbs.optional("subjectUniqueID", contextPrimitive(2));
  const wrapped = tbs.optional("extensions", contextConstructed(3));
  tbs.end("TBSCertificate");
  const extensions = wrapped === undefined ? new Map<string, Extension>() : readExtensions(wrapped);
  return { serialNumber, ...nameFields(issuer, subject), notBefore, notAfter, ...publicKey, ...understand(extensions) };
}

// RFC 5280 4.1.2.1: [0] EXPLICIT INTEGER, absent for version 1, 2 for version 3.
function readVersion(tbs: DerReader): void {
  const explicit = tbs.optional("version", contextConstructed(0));
  const version = explicit === undefined ? 0n : readInteger(into(explicit).next("version", TAG.integer));
  if (version < 0n || version > 2n) {
    throw new UkiSignError("UKI_SIGN_CERTIFICATE_INVALID", `expected an X.509 version of 1 to 3, got ${version + 1n}`);
  }
}

function nameFields(
  issuer: DecodedName,
  subject: DecodedName,
): Pick<Certificate, "issuer" | "issuerDer" | "subject" | "subjectDer"> {
  return { issuer: issuer.text, issuerDer: issuer.der, subject: subject.text, subjectDer: subject.der };
}

/** The object identifier of an AlgorithmIdentifier; its parameters are left to whoever uses the algorithm. */
function readAlgorithm(element: DerElement): { oid: string; bytes: Uint8Array } {
  return { oid: readOid(into(element).next("algorithm", TAG.oid)), bytes: element.bytes };
}

function readPublicKey(element: DerElement): Pick<Certificate, "publicKey" | "keyAlgorithm" | "keyBits"> {
  const reader = into(element);
  const { oid } = readAlgorithm(reader.next("key algorithm", TAG.sequence));
  const bits = reader.next("subjectPublicKey", TAG.bitString);
  reader.end("subjectPublicKeyInfo");
  const key = readBitString(bits);
  if (oid !== OID.rsaEncryption) return { publicKey: element.bytes, keyAlgorithm: oid, keyBits: undefined };
  // RFC 8017 A.1.1: RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }
  const rsa = new DerReader(key, bits.contentsOffset + 1).enter("RSAPublicKey");
  const modulus = readInteger(rsa.next("modulus", TAG.integer));
  readInteger(rsa.next("publicExponent", TAG.integer));
  rsa.end("RSAPublicKey");
  if (modulus <= 0n) throw badDer("expected a positive modulus", bits.offset);
  return { publicKey: element.bytes, keyAlgorithm: oid, keyBits: modulus.toString(2).length };
}

interface Extension {
  readonly critical: boolean;
  readonly value: DerElement;
}

function readExtensions(wrapped: DerElement): Map<string, Extension> {
  const explicit = into(wrapped);
  const list = explicit.enter("extensions");
  explicit.end("extensions");
  const extensions = new Map<string, Extension>();
  while (!list.done) {
    const element = list.next("extension", TAG.sequence);
    const reader = into(element);
    const oid = readOid(reader.next("extension identifier", TAG.oid));
    const flag = reader.optional("critical", TAG.boolean);
    const critical = flag !== undefined && readBoolean(flag);
    const value = reader.next("extension value", TAG.octetString);
    reader.end("extension");
    // RFC 5280 4.2: no extension appears twice; two readers could otherwise see two certificates in one.
    if (extensions.has(oid)) throw badDer(`expected extension ${oid} once`, element.offset);
    extensions.set(oid, { critical, value });
  }
  return extensions;
}

type Understood = Pick<
  Certificate,
  | "isCa"
  | "pathLength"
  | "keyUsage"
  | "extendedKeyUsage"
  | "subjectKeyIdentifier"
  | "authorityKeyIdentifier"
  | "unknownCriticalExtensions"
>;

const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.basicConstraints,
  OID.keyUsage,
  OID.extendedKeyUsage,
  OID.subjectKeyIdentifier,
  OID.authorityKeyIdentifier,
]);

function understand(extensions: ReadonlyMap<string, Extension>): Understood {
  const value = (oid: string): DerReader | undefined => {
    const extension = extensions.get(oid);
    return extension && into(extension.value);
  };
  return {
    ...readBasicConstraints(value(OID.basicConstraints)),
    keyUsage: readKeyUsage(value(OID.keyUsage)),
    extendedKeyUsage: readExtendedKeyUsage(value(OID.extendedKeyUsage)),
    subjectKeyIdentifier: value(OID.subjectKeyIdentifier)?.next("subjectKeyIdentifier", TAG.octetString).contents,
    authorityKeyIdentifier: value(OID.authorityKeyIdentifier)
      ?.enter("authorityKeyIdentifier")
      .optional("keyIdentifier", contextPrimitive(0))?.contents,
    unknownCriticalExtensions: [...extensions]
      .filter(([oid, { critical }]) => critical && !UNDERSTOOD.has(oid))
      .map(([oid]) => oid),
  };
}

function readBasicConstraints(value: DerReader | undefined): Pick<Certificate, "isCa" | "pathLength"> {
  const reader = value?.enter("basicConstraints");
  const flag = reader?.optional("cA", TAG.boolean);
  const isCa = flag !== undefined && readBoolean(flag);
  const length = reader?.optional("pathLenConstraint", TAG.integer);
  return { isCa, pathLength: length && Number(readInteger(length)) };
}

function readKeyUsage(value: DerReader | undefined): KeyUsage[] | undefined {
  const octets = value?.next("keyUsage", TAG.bitString).contents;
  // The first octet counts unused bits; named bits count from the most significant one.
  return octets && KEY_USAGES.filter((_name, bit) => ((octets[1 + (bit >> 3)] ?? 0) & (0x80 >> (bit & 7))) !== 0);
}

function readExtendedKeyUsage(value: DerReader | undefined): string[] | undefined {
  const reader = value?.enter("extendedKeyUsage");
  if (reader === undefined) return undefined;
  const purposes: string[] = [];
  while (!reader.done) purposes.push(readOid(reader.next("purpose", TAG.oid)));
  return purposes;
}
