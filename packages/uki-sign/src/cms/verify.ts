import { createHash } from "node:crypto";
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { OID } from "../format/oids.ts";
import { toHex } from "../internal/bytes.ts";
import { DerReader, readOid, readTime, TAG } from "../internal/der.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import type { HashName, RsaPadding } from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { type Certificate, certificateKey } from "../x509/certificate.ts";
import { findChain, IssuerChecks } from "../x509/chain.ts";
import { type CmsSignedData, type CmsSigner, type CmsSignerIdentifier, decodeCms, isNamedBy } from "./decode.ts";
import type { CmsAttribute } from "./sign.ts";

const certificatesSchema = z.array(
  z.custom<Certificate>((value) => typeof value === "object" && value !== null && "fingerprint" in value),
);

const optionsSchema = z.strictObject({
  content: bytesSchema.optional(),
  trusted: z.union([z.literal("unchecked"), certificatesSchema]),
  certificates: certificatesSchema.default([]),
  extendedKeyUsage: z.string().optional(),
  at: z.date().optional(),
});

/** Options of {@link verifyCms}. */
export interface VerifyCmsOptions {
  /**
   * the signed content, in the form that {@link signCms} takes; required for a detached signature, compared with the
   * embedded content otherwise
   */
  readonly content?: Uint8Array | undefined;
  /** certificates that are trusted as they are; `unchecked` to know only who signed, as for showing it */
  readonly trusted: readonly Certificate[] | "unchecked";
  /** further certificates, of signers or between them and the trusted ones, that the signature does not embed */
  readonly certificates?: readonly Certificate[] | undefined;
  /** purpose that the chain must allow: a dotted object identifier */
  readonly extendedKeyUsage?: string | undefined;
  /** time at which the chain must be valid; validity is not looked at without it, as firmware and kernel do */
  readonly at?: Date | undefined;
}

/** A signer whose signature is right. */
export interface VerifiedSigner {
  readonly certificate: Certificate;
  /** from `certificate` to the trusted one; only `certificate` when trust was not checked */
  readonly chain: readonly Certificate[];
  readonly hash: HashName;
  readonly padding: RsaPadding;
  /** what the signer says; undefined without the attribute */
  readonly signingTime: Date | undefined;
}

/** A signature whose every signer is right and trusted. */
export interface VerifiedCms {
  readonly contentType: string;
  /** the content that was verified, in the form that {@link signCms} takes */
  readonly content: Uint8Array;
  /** one at least */
  readonly signers: readonly VerifiedSigner[];
}

/**
 * Verifies a CMS (PKCS#7) signature: every signer has to be right and trusted.
 *
 * @param input - DER, or what {@link decodeCms} returned.
 * @param options - The trusted certificates, and the content of a detached signature.
 * @returns What was signed, and by whom.
 * @throws {UkiSignError} What {@link decodeCms} throws; `UKI_SIGN_DIGEST_MISMATCH` when the content is another one,
 *   `UKI_SIGN_SIGNATURE_MISMATCH` when a signature is wrong, `UKI_SIGN_UNTRUSTED` when a signer is not known or not
 *   trusted, `UKI_SIGN_UNSIGNED` when there is no signer, `UKI_SIGN_CMS_INVALID` when attributes contradict the rest.
 * @see RFC 5652 sections 5.4 and 5.6
 * @example
 * verifyCms(p7s, { content, trusted: [certificate] });
 */
export function verifyCms(input: Uint8Array | CmsSignedData, options: VerifyCmsOptions): VerifiedCms {
  return verifyCmsWith(input, options, new IssuerChecks());
}

/** {@link verifyCms} as a part of a decision. */
export function verifyCmsWith(
  input: Uint8Array | CmsSignedData,
  options: VerifyCmsOptions,
  checks: IssuerChecks,
): VerifiedCms {
  const parsed = parseOptions(optionsSchema, options);
  const cms = input instanceof Uint8Array ? decodeCms(input) : input;
  const content = chooseContent(cms, parsed.content);
  const octets = cms.contentOctets ?? contentOctets(cms.contentType, content);
  if (cms.signers.length === 0) throw new UkiSignError("UKI_SIGN_UNSIGNED", "expected a signer, got none");
  const known = [...cms.certificates, ...parsed.certificates];
  if (parsed.trusted !== "unchecked") known.push(...parsed.trusted);
  const signers = cms.signers.map((signer): VerifiedSigner => {
    const certificate = findCertificate(signer.identifier, known);
    verifySigner(cms, signer, octets, certificate);
    const { trusted, extendedKeyUsage, at } = parsed;
    const chain =
      trusted === "unchecked"
        ? [certificate]
        : findChain(certificate, { trusted, intermediates: known, extendedKeyUsage, at }, checks);
    return {
      certificate,
      chain,
      hash: signer.hash,
      padding: signer.scheme.padding,
      signingTime: readSigningTime(signer),
    };
  });
  return { contentType: cms.contentType, content, signers };
}

function chooseContent(cms: CmsSignedData, given: Uint8Array | undefined): Uint8Array {
  const content = given ?? cms.content;
  if (content === undefined) {
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", "expected the content of a detached signature, got none", {
      field: "content",
    });
  }
  if (given !== undefined && cms.content !== undefined && Buffer.compare(given, cms.content) !== 0) {
    throw new UkiSignError("UKI_SIGN_DIGEST_MISMATCH", "expected the embedded content, got another one");
  }
  return content;
}

function contentOctets(contentType: string, content: Uint8Array): Uint8Array {
  if (contentType === OID.data) return content;
  const reader = new DerReader(content);
  const { contents } = reader.next("content");
  reader.end("content");
  return contents;
}

function findCertificate(identifier: CmsSignerIdentifier, known: readonly Certificate[]): Certificate {
  const certificate = known.find((candidate) => isNamedBy(candidate, identifier));
  if (certificate !== undefined) return certificate;
  const name =
    identifier.kind === "issuerAndSerialNumber"
      ? `serial number ${identifier.serialNumber.toString(16)} of ${identifier.issuer}`
      : `key identifier ${toHex(identifier.subjectKeyIdentifier)}`;
  throw new UkiSignError("UKI_SIGN_UNTRUSTED", `expected a known signer, got ${name}`);
}

function verifySigner(cms: CmsSignedData, signer: CmsSigner, octets: Uint8Array, certificate: Certificate): void {
  const { hash, scheme, signedAttributes, signedAttributesDer, signature } = signer;
  const messageDigest = createHash(hash).update(octets).digest();
  let digest: Uint8Array = messageDigest;
  if (signedAttributes !== undefined && signedAttributesDer !== undefined) {
    verifyAttributes(cms, signedAttributes, messageDigest);
    digest = createHash(hash).update(signedAttributesDer).digest();
  } else if (cms.contentType !== OID.data) {
    // RFC 5652 5.3: without signed attributes, content could be passed off as another type.
    throw new UkiSignError(
      "UKI_SIGN_CMS_INVALID",
      "expected signed attributes for a type other than id-data, got none",
    );
  }
  if (verifyDigest(certificateKey(certificate), scheme, digest, signature)) return;
  const message = `expected a signature by ${certificate.subject} over this content, got another one`;
  throw new UkiSignError("UKI_SIGN_SIGNATURE_MISMATCH", message);
}

function verifyAttributes(cms: CmsSignedData, attributes: readonly CmsAttribute[], messageDigest: Uint8Array): void {
  // RFC 5652 11.1 and 11.2: both are required, with one value each.
  const contentType = readOid(attributeValue(attributes, OID.contentType, "contentType").next("contentType", TAG.oid));
  if (contentType !== cms.contentType) {
    const message = `expected the contentType attribute ${cms.contentType}, got ${contentType}`;
    throw new UkiSignError("UKI_SIGN_CMS_INVALID", message);
  }
  const reader = attributeValue(attributes, OID.messageDigest, "messageDigest");
  const { contents } = reader.next("messageDigest", TAG.octetString);
  if (Buffer.compare(contents, messageDigest) === 0) return;
  const [expected, actual] = [contents, messageDigest].map(toHex);
  throw new UkiSignError("UKI_SIGN_DIGEST_MISMATCH", `expected content with digest ${expected}, got ${actual}`);
}

function attributeValue(attributes: readonly CmsAttribute[], type: string, name: string): DerReader {
  const values = attributes.find((attribute) => attribute.type === type)?.values ?? [];
  const [value] = values;
  if (value === undefined || values.length > 1) {
    throw new UkiSignError("UKI_SIGN_CMS_INVALID", `expected one ${name} attribute, got ${values.length} values`);
  }
  return new DerReader(value);
}

function readSigningTime({ signedAttributes = [] }: CmsSigner): Date | undefined {
  if (!signedAttributes.some(({ type }) => type === OID.signingTime)) return undefined;
  return readTime(attributeValue(signedAttributes, OID.signingTime, "signingTime"), "signingTime");
}
