import type { Bytes } from "../bytes/byte-source.ts";
import { decodeCms } from "../cms/decode.ts";
import { decodeSignatureLists, type EfiSignature, type SignatureList } from "../efi/signature-list.ts";
import { UkiSignError } from "../errors.ts";
import type { Certificate } from "../x509/certificate.ts";
import { findChain, IssuerChecks } from "../x509/chain.ts";
import { listSignatures } from "./certificate-table.ts";
import { readCertificate, signatureDatabase } from "./database.ts";
import { authenticodeDigest } from "./digest.ts";
import { verifyPe } from "./verify.ts";

/** Values of the two databases, as GetVariable returns them. */
export interface FindAuthorityOptions {
  readonly db: Uint8Array;
  /** nothing is forbidden when absent */
  readonly dbx?: Uint8Array | undefined;
}

/**
 * Finds the entry of `db` by which firmware accepts an image: what it measures into PCR 7 when it loads the image.
 *
 * @param image - The whole file; not modified.
 * @param options - The databases.
 * @returns The first entry, in the order of `db`, that a signature of the image leads to; or the one with its digest.
 * @throws {UkiSignError} What `verifyPe` throws for an image that firmware refuses; what `decodeSignatureLists` throws.
 * @see UEFI 2.10 section 32.5.3.3; TCG PC Client Platform Firmware Profile 1.06 section 3.3.4.8
 * @example
 * const authority = findAuthority(image, { db });
 * predictPcr7({ variables: { PK, KEK, db }, authorities: [authority] });
 */
export function findAuthority(image: Bytes, options: FindAuthorityOptions): EfiSignature {
  const lists = decodeSignatureLists(options.db);
  const dbx = signatureDatabase(decodeSignatureLists(options.dbx ?? new Uint8Array()));
  const { signature, signer } = verifyPe(image, { db: signatureDatabase(lists), dbx });
  if (signature === undefined || signer === undefined) return entryWithDigest(lists, image);
  const intermediates = decodeCms(listSignatures(image)[signature]?.data ?? new Uint8Array()).certificates;
  const checks = new IssuerChecks();
  for (const entry of lists.filter(({ type }) => type === "x509").flatMap(({ signatures }) => signatures)) {
    const certificate = readCertificate(entry.data);
    if (certificate !== undefined && leadsTo(signer.certificate, certificate, intermediates, checks)) return entry;
  }
  throw new Error("bug: an image accepted by no entry of db");
}

function entryWithDigest(lists: readonly SignatureList[], image: Bytes): EfiSignature {
  for (const hash of ["sha256", "sha384", "sha512"] as const) {
    const entries = lists.filter(({ type }) => type === hash).flatMap(({ signatures }) => signatures);
    if (entries.length === 0) continue;
    const digest = authenticodeDigest(image, hash, { padding: "none" });
    const entry = entries.find(({ data }) => Buffer.compare(data, digest) === 0);
    if (entry !== undefined) return entry;
  }
  throw new Error("bug: an image accepted by no digest of db");
}

function leadsTo(
  signer: Certificate,
  trusted: Certificate,
  intermediates: readonly Certificate[],
  checks: IssuerChecks,
): boolean {
  try {
    findChain(signer, { trusted: [trusted], intermediates }, checks);
    return true;
  } catch (error) {
    if (error instanceof UkiSignError && error.code === "UKI_SIGN_UNTRUSTED") return false;
    throw error;
  }
}
