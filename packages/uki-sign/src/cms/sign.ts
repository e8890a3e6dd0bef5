import { createHash } from "node:crypto";
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { HASHES, OID } from "../format/oids.ts";
import {
  contextConstructed,
  DerReader,
  der,
  derInteger,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  derSetOf,
  derTime,
  TAG,
} from "../internal/der.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import type { Signer } from "../keys/signer.ts";
import {
  encodeSignatureAlgorithm,
  type HashName,
  RSA_PADDINGS,
  type RsaPadding,
  type RsaScheme,
  schemeOf,
} from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { type Certificate, certificateKey } from "../x509/certificate.ts";

/** Longest content that is put inside a signature, in bytes; longer content is signed detached. */
export const DEFAULT_MAX_CMS_CONTENT_BYTES = 16 * 1024 * 1024;

/** An attribute of a signer: what it is, and one value or more. */
export interface CmsAttribute {
  /** dotted object identifier */
  readonly type: string;
  /** one complete DER element each */
  readonly values: readonly Uint8Array[];
}

/** As many certificates as anybody follows to one that is trusted. */
const MAX_INTERMEDIATES = 8;

const OBJECT_IDENTIFIER = /^[0-2](\.(0|[1-9]\d{0,14})){1,30}$/;

/** Schema of certificates beside the signer's. */
export const certificatesSchema = z
  .array(z.custom<Certificate>((value) => typeof value === "object" && value !== null && "issuerDer" in value))
  .max(MAX_INTERMEDIATES);

const optionsSchema = z.strictObject({
  contentType: z.string().regex(OBJECT_IDENTIFIER).default(OID.data),
  content: bytesSchema,
  detached: z.boolean().default(false),
  attributes: z
    .union([
      z.literal("none"),
      z.array(z.strictObject({ type: z.string().regex(OBJECT_IDENTIFIER), values: z.array(bytesSchema).min(1) })),
    ])
    .default([]),
  signer: z.custom<Signer>((value) => typeof value === "object" && value !== null && "signDigest" in value),
  certificate: z.custom<Certificate>((value) => typeof value === "object" && value !== null && "issuerDer" in value),
  signingTime: z.date().optional(),
  hash: z.enum(["sha256", "sha384", "sha512"]).default("sha256"),
  padding: z.enum(RSA_PADDINGS).default("pkcs1"),
  includeCertificate: z.boolean().default(true),
  intermediates: certificatesSchema.default([]),
  contentInfo: z.boolean().default(true),
});

/** Options of {@link signCms}. */
export interface SignCmsOptions {
  /** dotted object identifier of the content's type, id-data by default */
  readonly contentType?: string | undefined;
  /**
   * what is signed: for id-data the bytes themselves, which are wrapped in an OCTET STRING; for any other type one
   * complete DER element, which is embedded as it is (PKCS#7 version 1.5, as Authenticode wants it)
   */
  readonly content: Uint8Array;
  /** leaves the content out of the result; false by default */
  readonly detached?: boolean | undefined;
  /**
   * signed attributes beside contentType, messageDigest and signingTime, which are made here; `none` for a signature
   * over the content without any attributes
   */
  readonly attributes?: "none" | readonly CmsAttribute[] | undefined;
  readonly signer: Signer;
  /** the signer's certificate */
  readonly certificate: Certificate;
  /** value of the signingTime attribute, to the second; no such attribute by default */
  readonly signingTime?: Date | undefined;
  /** hash of content and attributes, SHA-256 by default */
  readonly hash?: HashName | undefined;
  /** how the digest is padded, `pkcs1` by default; firmware and kernel verify nothing else */
  readonly padding?: RsaPadding | undefined;
  /** puts the certificate into the result; true by default */
  readonly includeCertificate?: boolean | undefined;
  /** certificates between the signer's and one that is trusted, which the result carries too; at most 8, none by default */
  readonly intermediates?: readonly Certificate[] | undefined;
  /** wraps the result in a ContentInfo; true by default, false for UEFI's authenticated variables */
  readonly contentInfo?: boolean | undefined;
}

/**
 * Makes a CMS (PKCS#7) signature with one signer. The same options give the same bytes.
 *
 * @param options - What is signed, by whom, and in which form.
 * @returns DER of a ContentInfo with SignedData, or of the SignedData alone.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that do not fit, `UKI_SIGN_CMS_INVALID` when the content of a
 *   type other than id-data is no DER element, `UKI_SIGN_TOO_LARGE` when content that is to be embedded is longer than
 *   {@link DEFAULT_MAX_CMS_CONTENT_BYTES}, `UKI_SIGN_KEY_MISMATCH` when the signer's key is not the certificate's.
 * @see RFC 5652 section 5; RFC 2315 section 9 for content that is not in an OCTET STRING
 * @example
 * const p7s = await signCms({ content, detached: true, signer, certificate });
 */
export async function signCms(options: SignCmsOptions): Promise<Uint8Array> {
  const parsed = parseOptions(optionsSchema, options);
  const { contentType, detached, signer, certificate, hash, padding, includeCertificate } = parsed;
  const scheme = schemeOf(hash, padding);
  const { inner, attributes, digest } = whatIsSigned(parsed);
  const signature = await signer.signDigest(hash, digest, padding);
  requireOwnSignature(certificate, scheme, digest, signature);

  const digestAlgorithm = derSequence(derOid(HASHES[hash].oid), derNull());
  const signerInfo = derSequence(
    derInteger(1),
    derSequence(certificate.issuerDer, derInteger(certificate.serialNumber)),
    digestAlgorithm,
    ...(attributes === undefined ? [] : [derSetOf(attributes, contextConstructed(0))]),
    padding === "pss" ? encodeSignatureAlgorithm(scheme) : derSequence(derOid(OID.rsaEncryption), derNull()),
    derOctetString(signature),
  );
  const carried = [...(includeCertificate ? [certificate] : []), ...parsed.intermediates].map((each) => each.der);
  const signedData = derSequence(
    derInteger(1),
    der(TAG.set, digestAlgorithm),
    derSequence(derOid(contentType), ...(detached ? [] : [der(contextConstructed(0), inner.element)])),
    ...(carried.length > 0 ? [derSetOf(carried, contextConstructed(0))] : []),
    der(TAG.set, signerInfo),
  );
  return parsed.contentInfo ? derSequence(derOid(OID.signedData), der(contextConstructed(0), signedData)) : signedData;
}

/** Options of {@link signCms} that decide what is signed. */
type ContentOptions = Pick<
  z.output<typeof optionsSchema>,
  "contentType" | "content" | "detached" | "attributes" | "signingTime" | "hash"
>;

/** The digest that a signature with these options is over, with the parts it is made of. */
export function whatIsSigned(options: ContentOptions): {
  readonly inner: InnerContent;
  readonly attributes: readonly Uint8Array[] | undefined;
  readonly digest: Uint8Array;
} {
  const { contentType, content, detached, hash } = options;
  const inner = contentType === OID.data ? derContent(content, detached) : checkElement(content);
  // RFC 5652 5.4: the digest is over the content octets, without the tag and length in front of them.
  const messageDigest = createHash(hash).update(inner.octets).digest();
  const attributes = signedAttributes(options, messageDigest);
  // RFC 5652 5.4: what is signed is the attributes as a SET OF, with that tag and not the [0] they are stored with.
  const digest = attributes === undefined ? messageDigest : createHash(hash).update(derSetOf(attributes)).digest();
  return { inner, attributes, digest };
}

interface InnerContent {
  /** the eContent element; empty when it is not needed */
  readonly element: Uint8Array;
  /** the octets that are hashed */
  readonly octets: Uint8Array;
}

function derContent(content: Uint8Array, detached: boolean): InnerContent {
  if (detached) return { element: new Uint8Array(), octets: content };
  requireEmbeddable(content);
  return { element: derOctetString(content), octets: content };
}

function checkElement(content: Uint8Array): InnerContent {
  requireEmbeddable(content);
  const reader = new DerReader(content);
  try {
    const { bytes, contents } = reader.next("content");
    reader.end("content");
    return { element: bytes, octets: contents };
  } catch (cause) {
    const message = "expected content of one DER element for a type other than id-data";
    throw new UkiSignError("UKI_SIGN_CMS_INVALID", message, { cause });
  }
}

function requireEmbeddable(content: Uint8Array): void {
  if (content.length <= DEFAULT_MAX_CMS_CONTENT_BYTES) return;
  const message = `expected at most ${DEFAULT_MAX_CMS_CONTENT_BYTES} bytes of embedded content, got ${content.length}`;
  throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { hint: "sign it detached" });
}

function signedAttributes(
  { attributes, contentType, signingTime }: ContentOptions,
  messageDigest: Uint8Array,
): Uint8Array[] | undefined {
  if (attributes === "none") {
    if (signingTime === undefined) return undefined;
    const message = 'expected no signingTime with attributes: "none", got one';
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "signingTime" });
  }
  const own: CmsAttribute[] = [
    { type: OID.contentType, values: [derOid(contentType)] },
    { type: OID.messageDigest, values: [derOctetString(messageDigest)] },
    ...(signingTime === undefined ? [] : [{ type: OID.signingTime, values: [derTime(signingTime)] }]),
  ];
  const made: readonly string[] = [OID.contentType, OID.messageDigest, OID.signingTime];
  const taken = attributes.find(({ type }) => made.includes(type));
  if (taken !== undefined) {
    const message = `expected attributes other than those that are made here, got ${taken.type}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "attributes" });
  }
  return [...own, ...attributes].map(({ type, values }) => derSequence(derOid(type), derSetOf(values)));
}

// Catches a wrong certificate, and a signer that computes wrongly, before the signature is published.
function requireOwnSignature(
  certificate: Certificate,
  scheme: RsaScheme,
  digest: Uint8Array,
  signature: Uint8Array,
): void {
  if (verifyDigest(certificateKey(certificate), scheme, digest, signature)) return;
  throw new UkiSignError(
    "UKI_SIGN_KEY_MISMATCH",
    `expected the private key of ${certificate.subject}, got another one`,
    {
      hint: "give the certificate that was made for this key",
    },
  );
}
