import { createHash } from "node:crypto";
import * as z from "zod";
import { type Bytes, eachChunk } from "../bytes/byte-source.ts";
import { CERTIFICATE_ALIGNMENT, DIRECTORY_SIZE } from "../format/pe.ts";
import { parseOptions } from "../internal/options.ts";
import { decodePe, type PeImage } from "../pe/image.ts";
import { contiguousEnd } from "../pe/layout.ts";
import type { HashName } from "../rsa/scheme.ts";

const hashSchema = z.enum(["sha256", "sha384", "sha512"]);
const optionsSchema = z.strictObject({ padding: z.enum(["signature", "none"]).default("signature") });

/** Options of {@link authenticodeDigest}. */
export interface AuthenticodeDigestOptions {
  /**
   * what follows an unsigned image whose size is no multiple of 8: the zeros that attaching a signature would add, or
   * nothing, as firmware looks an unsigned image up in `db`; default `signature`
   */
  readonly padding?: "signature" | "none" | undefined;
}

/**
 * The digest an Authenticode signature covers: the whole file except the checksum, the certificate table's directory
 * entry and the certificate table.
 *
 * Files in which sections overlap or leave gaps are refused, because signing tools and firmware disagree on what of
 * them is covered.
 *
 * @param image - The whole file; not retained, not modified.
 * @param hash - Hash algorithm.
 * @param options - How to pad an unsigned image.
 * @returns The digest.
 * @throws {UkiSignError} Any code of {@link decodePe}; `UKI_SIGN_PE_INVALID` when sections overlap or leave gaps;
 *   `UKI_SIGN_BAD_OPTIONS` for another hash or padding.
 * @see Microsoft "Windows Authenticode Portable Executable Signature Format" (2008), "Calculating the PE Image Hash"
 * @example
 * const digest = authenticodeDigest(await readFile("linux.efi"), "sha256");
 */
export function authenticodeDigest(image: Bytes, hash: HashName, options: AuthenticodeDigestOptions = {}): Uint8Array {
  const { padding } = parseOptions(optionsSchema, options);
  return digestDecoded(image, decodePe(image), parseOptions(hashSchema, hash), padding);
}

/** {@link authenticodeDigest} of an image that is already decoded; in SHA-1 too, which TPMs measure but nobody signs. */
export function digestDecoded(
  image: Bytes,
  decoded: PeImage,
  hash: HashName | "sha1",
  padding: "signature" | "none",
): Uint8Array {
  const hasher = createHash(hash);
  for (const [start, end] of coveredRanges(decoded)) eachChunk(image, start, end, (chunk) => hasher.update(chunk));
  if (padding === "signature") hasher.update(new Uint8Array(certificatePadding(contentSize(decoded))));
  return new Uint8Array(hasher.digest());
}

/** Size of the image without its certificate table. */
export function contentSize(decoded: PeImage): number {
  return decoded.certificates?.address ?? decoded.fileSize;
}

/** Start and end of what the digest covers, in order. */
export function coveredRanges(decoded: PeImage): [number, number][] {
  contiguousEnd(decoded);
  // Steps 3 to 15: with sections that follow each other without gaps, header, sections and trailing data are one
  // run of bytes with two holes, up to the certificate table.
  const end = contentSize(decoded);
  const { checksumOffset, certificateDirectoryOffset: directory } = decoded;
  const afterChecksum = checksumOffset + 4;
  const rest: [number, number][] =
    directory === undefined
      ? [[afterChecksum, end]]
      : [
          [afterChecksum, directory],
          [directory + DIRECTORY_SIZE, end],
        ];
  return [[0, checksumOffset], ...rest];
}

/** Zeros between an image of `size` bytes and its certificate table. */
export function certificatePadding(size: number): number {
  return (CERTIFICATE_ALIGNMENT - (size % CERTIFICATE_ALIGNMENT)) % CERTIFICATE_ALIGNMENT;
}
