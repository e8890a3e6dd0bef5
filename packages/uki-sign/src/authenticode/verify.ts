import { createHash } from "node:crypto";
import * as z from "zod";
import type { Bytes } from "../bytes/byte-source.ts";
import { decodeCms } from "../cms/decode.ts";
import { type VerifiedSigner, type VerifyCmsOptions, verifyCmsWith } from "../cms/verify.ts";
import { UkiSignError, type UkiSignErrorCode } from "../errors.ts";
import { HASHES, OID } from "../format/oids.ts";
import { WIN_CERT_TYPE_PKCS_SIGNED_DATA } from "../format/pe.ts";
import { toHex } from "../internal/bytes.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import { decodePe } from "../pe/image.ts";
import type { HashName } from "../rsa/scheme.ts";
import type { Certificate } from "../x509/certificate.ts";
import { IssuerChecks } from "../x509/chain.ts";
import { type PeSignature, signaturesOf } from "./certificate-table.ts";
import { digestDecoded } from "./digest.ts";
import { decodeIndirectData } from "./indirect-data.ts";

const digestsSchema = z
  .array(bytesSchema.refine((bytes) => hashOfSize(bytes.length) !== undefined, "expected 32, 48 or 64 bytes"))
  .readonly()
  .default([]);
const databaseSchema = z.strictObject({
  certificates: z
    .array(z.custom<Certificate>((value) => typeof value === "object" && value !== null && "fingerprint" in value))
    .readonly()
    .default([]),
  digests: digestsSchema,
  certificateHashes: digestsSchema,
});
const optionsSchema = z.strictObject({
  db: databaseSchema,
  dbx: databaseSchema.prefault({}),
  extendedKeyUsage: z
    .string()
    .regex(/^[0-2](\.(0|[1-9]\d{0,14})){1,30}$/, "expected a dotted object identifier")
    .optional(),
  at: z.date().optional(),
});
type Database = z.output<typeof databaseSchema>;

/** Problems of one signature that refuse the image, whatever its other signatures are. */
const FINAL: ReadonlySet<UkiSignErrorCode> = new Set(["UKI_SIGN_REVOKED", "UKI_SIGN_TOO_LARGE"]);

/** What a Secure Boot database names. */
export interface PeSignatureDatabase {
  /** certificates of signers or of their issuers */
  readonly certificates?: readonly Certificate[] | undefined;
  /** Authenticode digests of single images: SHA-256, SHA-384 or SHA-512 by their length */
  readonly digests?: readonly Uint8Array[] | undefined;
  /** hashes of TBSCertificates, SHA-256, SHA-384 or SHA-512 by their length; only `dbx` is searched for them */
  readonly certificateHashes?: readonly Uint8Array[] | undefined;
}

/** Options of {@link verifyPe}. */
export interface VerifyPeOptions {
  /** what is trusted */
  readonly db: PeSignatureDatabase;
  /** what is forbidden even when `db` trusts it; nothing when absent */
  readonly dbx?: PeSignatureDatabase | undefined;
  /**
   * purpose that every certificate below the trusted one has, or does not restrict: a dotted object identifier, such as
   * 1.3.6.1.5.5.7.3.3 for signing code. Firmware does not ask, so nothing is asked when absent
   */
  readonly extendedKeyUsage?: string | undefined;
  /** time at which the signer's chain is valid; firmware has no trustworthy clock, so validity is not looked at when absent */
  readonly at?: Date | undefined;
}

/** Why {@link verifyPe} accepted an image. */
export interface VerifiedPe {
  /** SHA-256 Authenticode digest of the image */
  readonly digest: Uint8Array;
  /** position of the signature that was accepted, counted from 0; absent when `db` names the image's digest */
  readonly signature?: number;
  /** who made that signature; `chain` ends in a certificate of `db` */
  readonly signer?: VerifiedSigner;
}

/** One signature of an image, looked at without any trust. */
export interface ExaminedSignature {
  /** who signed this image, when the signature is intact and about this image */
  readonly signer?: VerifiedSigner;
  /** why it is no signature of this image */
  readonly problem?: UkiSignError;
}

/**
 * Says who signed a PE image, whoever that is; for showing, not for deciding.
 *
 * @param image - The whole file; not modified.
 * @returns One entry per attached signature; a broken one has a `problem` in place of a `signer`.
 * @throws {UkiSignError} What `listSignatures` and `authenticodeDigest` throw.
 */
export function examineSignatures(image: Bytes): ExaminedSignature[] {
  const decoded = decodePe(image);
  const digestOf = memoize((hash) => digestDecoded(image, decoded, hash, "none"));
  return signaturesOf(image, decoded).map((signature) => {
    try {
      return { signer: verifySignature(signature, digestOf, { trusted: "unchecked" }, new IssuerChecks()) };
    } catch (error) {
      if (!(error instanceof UkiSignError)) throw error;
      return { problem: error };
    }
  });
}

/**
 * Decides about a PE image as firmware under Secure Boot does: nothing about it may be in `dbx`, and `db` has to trust
 * one of its signatures or name its digest. Like firmware, it looks at the purposes and the validity of certificates only
 * when asked to.
 *
 * @param image - The whole file; not modified.
 * @param options - The two databases, and what else a signer has to be.
 * @returns What made the image acceptable.
 * @throws {UkiSignError} What `listSignatures` and `authenticodeDigest` throw; for a refused image
 *   `UKI_SIGN_REVOKED`, `UKI_SIGN_TOO_LARGE` (too many certificates to look at), `UKI_SIGN_UNSIGNED`, or what is wrong with its first signature: `UKI_SIGN_DIGEST_MISMATCH` (image
 *   changed), `UKI_SIGN_SIGNATURE_MISMATCH` (signature changed), `UKI_SIGN_UNTRUSTED` (signer unknown), or that it is
 *   malformed. The errors of all signatures are in the `cause`, an AggregateError.
 * @see UEFI 2.10 section 32.5.3.3 "Authorization Process"
 * @example
 * const { signer } = verifyPe(image, { db: { certificates: [decodeCertificate(pem)] } });
 * console.log(signer?.certificate.subject);
 */
export function verifyPe(image: Bytes, options: VerifyPeOptions): VerifiedPe {
  const { db, dbx, ...asked } = parseOptions(optionsSchema, options);
  const decoded = decodePe(image);
  const digestOf = memoize((hash) => digestDecoded(image, decoded, hash, "none"));
  const digest = digestOf("sha256");
  if (namesDigest(dbx, digestOf)) throw revoked(`an image that dbx does not name, got digest ${toHex(digest)}`);

  let accepted: VerifiedPe | undefined;
  const problems: UkiSignError[] = [];
  const checks = new IssuerChecks();
  for (const [index, signature] of signaturesOf(image, decoded).entries()) {
    try {
      assertNotRevoked(signature, digestOf, db, dbx, checks);
      const signer = verifySignature(signature, digestOf, { trusted: db.certificates, ...asked }, checks);
      accepted ??= { digest, signature: index, signer };
    } catch (error) {
      // With too many certificates nobody knows whether dbx forbids one of them.
      if (!(error instanceof UkiSignError) || FINAL.has(error.code)) throw error;
      problems.push(error);
    }
  }
  if (accepted !== undefined) return accepted;
  if (namesDigest(db, digestOf)) return { digest };
  throw refusal(problems);
}

/** Checks one signature: well-formed, about this image, and by a trusted signer. */
function verifySignature(
  signature: PeSignature,
  digestOf: (hash: HashName) => Uint8Array,
  trust: Omit<VerifyCmsOptions, "content">,
  checks: IssuerChecks,
): VerifiedSigner {
  if (signature.type !== WIN_CERT_TYPE_PKCS_SIGNED_DATA) {
    throw invalid(`a PKCS#7 signature (type 2), got type ${signature.type}`, signature);
  }
  const cms = decodeCms(signature.data);
  if (cms.contentType !== OID.spcIndirectData || cms.content === undefined) {
    throw invalid(`embedded content of type ${OID.spcIndirectData}, got ${cms.contentType}`, signature);
  }
  if (cms.signers.length !== 1) throw invalid(`one signer, got ${cms.signers.length}`, signature);
  const signed = decodeIndirectData(cms.content);
  const actual = digestOf(signed.hash);
  if (Buffer.compare(signed.digest, actual) !== 0) {
    throw new UkiSignError(
      "UKI_SIGN_DIGEST_MISMATCH",
      `expected an image with digest ${toHex(signed.digest)}, got ${toHex(actual)}`,
      { hint: "the image was changed after it was signed" },
    );
  }
  const [signer] = verifyCmsWith(cms, trust, checks).signers;
  if (signer === undefined) throw new Error("bug: a verified signature without signer");
  if (signer.padding !== "pkcs1") {
    throw invalid("RSASSA-PKCS1-v1_5, the only padding that firmware verifies, got RSASSA-PSS", signature);
  }
  return signer;
}

/** A signature whose chain can be led to a forbidden certificate refuses the image, whatever else signed it. */
function assertNotRevoked(
  signature: PeSignature,
  digestOf: (hash: HashName) => Uint8Array,
  db: Database,
  dbx: Database,
  checks: IssuerChecks,
): void {
  if (dbx.certificates.length + dbx.certificateHashes.length === 0) return;
  const signer = verifySignature(signature, digestOf, { trusted: "unchecked" }, checks);
  const { certificates } = decodeCms(signature.data);
  const forbidden =
    forbiddenAbove(signer.certificate, [...certificates, ...db.certificates], hashedIn(dbx), checks) ??
    forbiddenAbove(signer.certificate, [...certificates, ...dbx.certificates], listedIn(dbx), checks);
  if (forbidden === undefined) return;
  throw revoked(`a signer that dbx does not forbid, got ${signer.certificate.subject} by way of ${forbidden.subject}`);
}

/** Whether a database has the hash of a TBSCertificate. */
function hashedIn({ certificateHashes }: Database): (certificate: Certificate) => boolean {
  const hashes = new Set(certificateHashes.map(toHex));
  const names = (["sha256", "sha384", "sha512"] as const).filter(() => hashes.size > 0);
  return ({ tbs }) => names.some((hash) => hashes.has(createHash(hash).update(tbs).digest("hex")));
}

/** Whether a database has a certificate. */
function listedIn({ certificates }: Database): (certificate: Certificate) => boolean {
  const listed = new Set(certificates.map(({ fingerprint }) => fingerprint));
  return ({ fingerprint }) => listed.has(fingerprint);
}

/**
 * The first forbidden certificate on any way up from the signer. What keeps a certificate from being trusted (no CA, unknown
 * critical extensions, too long a chain, algorithms that are not verified here) does not keep it from being forbidden.
 */
function forbiddenAbove(
  signer: Certificate,
  issuers: readonly Certificate[],
  isForbidden: (certificate: Certificate) => boolean,
  checks: IssuerChecks,
): Certificate | undefined {
  const seen = new Set([signer.fingerprint]);
  const open = [signer];
  // Each certificate once, so that issuers that name each other end too.
  for (let next = open.shift(); next !== undefined; next = open.shift()) {
    const certificate = next;
    if (isForbidden(certificate)) return certificate;
    for (const issuer of issuers) {
      if (seen.has(issuer.fingerprint) || foldName(issuer.subject) !== foldName(certificate.issuer)) continue;
      if (!checks.maybeSignedBy(certificate, issuer)) continue;
      seen.add(issuer.fingerprint);
      open.push(issuer);
    }
  }
  return undefined;
}

/** What is left of a name when OpenSSL, which firmware has, compares it: no case, and blanks do not count. */
function foldName(name: string): string {
  return name.replaceAll(/[\s\\]/g, "").toLowerCase();
}

function namesDigest(database: Database, digestOf: (hash: HashName) => Uint8Array): boolean {
  return database.digests.some((digest) => {
    const hash = hashOfSize(digest.length);
    return hash !== undefined && Buffer.compare(digest, digestOf(hash)) === 0;
  });
}

function refusal(problems: readonly UkiSignError[]): UkiSignError {
  const [first] = problems;
  if (first === undefined) {
    return new UkiSignError("UKI_SIGN_UNSIGNED", "expected a signed image or one that db names, got an unsigned one");
  }
  const others = problems.length > 1 ? ` (and ${problems.length - 1} more signatures that are refused)` : "";
  return new UkiSignError(first.code, `${first.message}${others}`, {
    hint: first.hint,
    offset: first.offset,
    cause: new AggregateError(problems, "no signature of the image was accepted"),
  });
}

function memoize(compute: (hash: HashName) => Uint8Array): (hash: HashName) => Uint8Array {
  const known = new Map<HashName, Uint8Array>();
  return (hash) => {
    const value = known.get(hash) ?? compute(hash);
    known.set(hash, value);
    return value;
  };
}

function hashOfSize(size: number): HashName | undefined {
  return (["sha256", "sha384", "sha512"] as const).find((hash) => HASHES[hash].sizeBytes === size);
}

function revoked(expectation: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_REVOKED", `expected ${expectation}`);
}

function invalid(expectation: string, { offset }: PeSignature): UkiSignError {
  return new UkiSignError("UKI_SIGN_AUTHENTICODE_INVALID", `expected ${expectation} (at byte ${offset})`, { offset });
}
