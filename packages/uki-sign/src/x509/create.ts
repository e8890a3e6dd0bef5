import { createHash } from "node:crypto";
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { OID } from "../format/oids.ts";
import {
  contextConstructed,
  contextPrimitive,
  DerReader,
  der,
  derBitString,
  derInteger,
  derOctetString,
  derOid,
  derSequence,
  derTime,
  derTrue,
  into,
  readBitString,
  TAG,
} from "../internal/der.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import type { Signer } from "../keys/signer.ts";
import { encodeSignatureAlgorithm, type HashName, RSA_PADDINGS, type RsaPadding, schemeOf } from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { type Certificate, certificateKey, decodeCertificate, KEY_USAGES, type KeyUsage } from "./certificate.ts";
import { encodeName } from "./name.ts";

const text = z.string().min(1).max(64);

/** RFC 5280 4.1.2.2: positive, at most 20 octets. */
const MAX_SERIAL_NUMBER = 1n << 159n;

const optionsSchema = z.strictObject({
  subject: z.strictObject({
    commonName: text,
    organization: text.optional(),
    organizationalUnit: text.optional(),
    country: z
      .string()
      .regex(/^[A-Z]{2}$/)
      .optional(),
  }),
  publicKey: bytesSchema,
  signer: z.custom<Signer>((value) => typeof value === "object" && value !== null && "signDigest" in value),
  issuer: z
    .custom<Certificate>((value) => typeof value === "object" && value !== null && "subjectDer" in value)
    .optional(),
  serialNumber: z.bigint().gt(0n).lt(MAX_SERIAL_NUMBER),
  notBefore: z.date(),
  notAfter: z.date(),
  isCa: z.boolean().default(false),
  pathLength: z.int().min(0).max(16).optional(),
  keyUsage: z.array(z.enum(KEY_USAGES)).min(1).optional(),
  extendedKeyUsage: z
    .array(z.string().regex(/^[0-2](\.(0|[1-9]\d{0,14})){1,30}$/))
    .min(1)
    .optional(),
  hash: z.enum(["sha256", "sha384", "sha512"]).default("sha256"),
  padding: z.enum(RSA_PADDINGS).default("pkcs1"),
});

/** Who a certificate is for; each part at most 64 characters. */
export interface CertificateSubject {
  readonly commonName: string;
  readonly organization?: string | undefined;
  readonly organizationalUnit?: string | undefined;
  /** two capital letters */
  readonly country?: string | undefined;
}

/** Options of {@link createCertificate}. */
export interface CreateCertificateOptions {
  readonly subject: CertificateSubject;
  /** the subject's SubjectPublicKeyInfo, DER */
  readonly publicKey: Uint8Array;
  /** the issuer's key, which for a self-signed certificate is the subject's */
  readonly signer: Signer;
  /** the issuer's certificate; self-signed without it */
  readonly issuer?: Certificate | undefined;
  /** positive, below 2^159; unique for the issuer */
  readonly serialNumber: bigint;
  /** to the second */
  readonly notBefore: Date;
  /** to the second */
  readonly notAfter: Date;
  /** whether the subject may issue certificates; false by default */
  readonly isCa?: boolean | undefined;
  /** most certificates between this one and an end of its chains; only with `isCa` */
  readonly pathLength?: number | undefined;
  /** `digitalSignature`, and with `isCa` also `keyCertSign` and `cRLSign`, by default */
  readonly keyUsage?: readonly KeyUsage[] | undefined;
  /** dotted object identifiers; no extension by default, which allows every purpose */
  readonly extendedKeyUsage?: readonly string[] | undefined;
  /** hash of the issuer's signature, SHA-256 by default */
  readonly hash?: HashName | undefined;
  /** padding of the issuer's signature, `pkcs1` by default */
  readonly padding?: RsaPadding | undefined;
}

/**
 * Makes an X.509 version 3 certificate. The same options give the same bytes: serial number and times are the caller's.
 *
 * @param options - Subject, key, issuer and limits.
 * @returns The certificate.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that do not fit, `UKI_SIGN_KEY_MISMATCH` when `signer` is not the
 *   key of `issuer` (or of `publicKey`, for a self-signed certificate), `UKI_SIGN_KEY_UNSUPPORTED` when a key is not RSA of
 *   2048 to 8192 bits.
 * @see RFC 5280 section 4
 * @example
 * const signer = pemSigner(key);
 * const certificate = await createCertificate({
 *   subject: { commonName: "leveret db" }, publicKey: signer.publicKey, signer, serialNumber: 1n, notBefore, notAfter,
 * });
 */
export async function createCertificate(options: CreateCertificateOptions): Promise<Certificate> {
  const parsed = parseOptions(optionsSchema, options);
  const { subject, publicKey, signer, issuer, serialNumber, notBefore, notAfter, hash, padding } = parsed;
  const scheme = schemeOf(hash, padding);
  if (notBefore >= notAfter) throw badOption("notAfter", "expected notAfter to be later than notBefore");
  const subjectDer = encodeName(subject);
  const algorithm = encodeSignatureAlgorithm(scheme);
  const tbs = derSequence(
    der(contextConstructed(0), derInteger(2)),
    derInteger(serialNumber),
    algorithm,
    issuer?.subjectDer ?? subjectDer,
    derSequence(derTime(notBefore), derTime(notAfter)),
    subjectDer,
    publicKey,
    der(contextConstructed(3), derSequence(...extensions(parsed))),
  );
  const digest = createHash(hash).update(tbs).digest();
  const signature = await signer.signDigest(hash, digest, padding);
  const certificate = decodeCertificate(derSequence(tbs, algorithm, derBitString(signature)));
  certificateKey(certificate);
  const issuing = issuer ?? certificate;
  if (!verifyDigest(certificateKey(issuing), scheme, digest, signature)) {
    const message = `expected the private key of ${issuing.subject} to sign the certificate, got another one`;
    throw new UkiSignError("UKI_SIGN_KEY_MISMATCH", message);
  }
  return certificate;
}

/**
 * Checks that a signer holds the private key of a certificate, by having it sign a digest; works for every kind of signer.
 *
 * @param signer - The signer.
 * @param certificate - The certificate.
 * @throws {UkiSignError} `UKI_SIGN_KEY_MISMATCH` when it does not.
 */
export async function assertKeyMatches(signer: Signer, certificate: Certificate): Promise<void> {
  const digest = createHash("sha256").update("leveret: does this key belong to this certificate?").digest();
  const signature = await signer.signDigest("sha256", digest);
  if (verifyDigest(certificateKey(certificate), schemeOf("sha256", "pkcs1"), digest, signature)) return;
  throw new UkiSignError(
    "UKI_SIGN_KEY_MISMATCH",
    `expected the private key of ${certificate.subject}, got another one`,
    {
      hint: "give the certificate that was made for this key",
    },
  );
}

type Parsed = z.output<typeof optionsSchema>;

function extensions({ isCa, pathLength, keyUsage, extendedKeyUsage, publicKey, issuer }: Parsed): Uint8Array[] {
  if (pathLength !== undefined && !isCa) throw badOption("pathLength", "expected pathLength only with isCa");
  const usages: readonly KeyUsage[] =
    keyUsage ?? (isCa ? ["digitalSignature", "keyCertSign", "cRLSign"] : ["digitalSignature"]);
  // RFC 5280 4.2.1.2 method (1): SHA-1 of the key, as a name and not for security.
  const keyIdentifier = createHash("sha1").update(keyBits(publicKey)).digest();
  const authority = issuer === undefined ? keyIdentifier : issuer.subjectKeyIdentifier;
  const constraints = [...(isCa ? [derTrue()] : []), ...(pathLength === undefined ? [] : [derInteger(pathLength)])];
  return [
    extension(OID.basicConstraints, true, derSequence(...constraints)),
    extension(OID.keyUsage, true, encodeKeyUsage(usages)),
    ...(extendedKeyUsage === undefined
      ? []
      : [extension(OID.extendedKeyUsage, false, derSequence(...extendedKeyUsage.map(derOid)))]),
    extension(OID.subjectKeyIdentifier, false, derOctetString(keyIdentifier)),
    ...(authority === undefined
      ? []
      : [extension(OID.authorityKeyIdentifier, false, derSequence(der(contextPrimitive(0), authority)))]),
  ];
}

function extension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  return derSequence(derOid(oid), ...(critical ? [derTrue()] : []), derOctetString(value));
}

/** A named bit list: trailing zero bits are left out (X.690 11.2.2). */
function encodeKeyUsage(usages: readonly KeyUsage[]): Uint8Array {
  const bits = KEY_USAGES.map((name, bit) => (usages.includes(name) ? bit : -1)).filter((bit) => bit >= 0);
  const last = Math.max(...bits);
  const octets = new Uint8Array((last >> 3) + 1);
  for (const bit of bits) octets[bit >> 3] = (octets[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return der(TAG.bitString, Uint8Array.of(7 - (last & 7)), octets);
}

function keyBits(publicKey: Uint8Array): Uint8Array {
  const file = new DerReader(publicKey);
  const reader = into(file.next("subjectPublicKeyInfo", TAG.sequence));
  file.end("subjectPublicKeyInfo");
  reader.next("key algorithm", TAG.sequence);
  return readBitString(reader.next("subjectPublicKey", TAG.bitString));
}

function badOption(field: string, message: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field });
}
