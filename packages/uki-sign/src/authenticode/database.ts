import type { SignatureList } from "../efi/signature-list.ts";
import { UkiSignError } from "../errors.ts";
import { EFI_TIME_BYTES } from "../format/efi.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";
import type { PeSignatureDatabase } from "./verify.ts";

const DIGEST_TYPES: readonly string[] = ["sha256", "sha384", "sha512"];
const CERTIFICATE_HASH_TYPES: readonly string[] = ["x509Sha256", "x509Sha384", "x509Sha512"];

/** A signature database as {@link signatureDatabase} makes it of lists: nothing is left open. */
export type DecodedSignatureDatabase = {
  readonly [K in keyof PeSignatureDatabase]-?: NonNullable<PeSignatureDatabase[K]>;
};

/**
 * What `verifyPe` needs to know of a signature database.
 *
 * @param lists - The lists of db or dbx, as `decodeSignatureLists` returns them.
 * @returns Certificates, image digests and hashes of certificates, in order. Certificates that cannot be read are left out,
 *   as firmware does, and types that firmware does not decide by: SHA-1 and bare keys.
 * @see UEFI 2.10 sections 32.4.1 and 32.5.3.3
 * @example
 * const dbx = signatureDatabase(decodeSignatureLists(await readFile("dbx.esl")));
 * verifyPe(image, { db: { certificates: [certificate] }, dbx });
 */
export function signatureDatabase(lists: readonly SignatureList[]): DecodedSignatureDatabase {
  const entries = (types: readonly string[]): Uint8Array[] =>
    lists.filter(({ type }) => types.includes(type)).flatMap(({ signatures }) => signatures.map(({ data }) => data));
  return {
    certificates: entries(["x509"]).flatMap((der) => readCertificate(der) ?? []),
    digests: entries(DIGEST_TYPES),
    // The time behind the hash is about signatures with a trusted time stamp, of which there are none here.
    certificateHashes: entries(CERTIFICATE_HASH_TYPES).map((data) => data.subarray(0, data.length - EFI_TIME_BYTES)),
  };
}

/** The certificate of an entry; undefined when it cannot be read. */
export function readCertificate(der: Uint8Array): Certificate | undefined {
  try {
    return decodeCertificate(der);
  } catch (error) {
    if (error instanceof UkiSignError) return undefined;
    throw error;
  }
}
