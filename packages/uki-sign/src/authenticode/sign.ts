import * as z from "zod";
import type { Bytes } from "../bytes/byte-source.ts";
import { certificatesSchema, signCms } from "../cms/sign.ts";
import { OID } from "../format/oids.ts";
import { parseOptions } from "../internal/options.ts";
import type { Signer } from "../keys/signer.ts";
import type { HashName } from "../rsa/scheme.ts";
import type { Certificate } from "../x509/certificate.ts";
import { attachSignature } from "./certificate-table.ts";
import { authenticodeDigest } from "./digest.ts";
import { encodeIndirectData } from "./indirect-data.ts";

/** Schema of {@link SignPeOptions}. */
export const signPeSchema = z.strictObject({
  signer: z.custom<Signer>((value) => typeof value === "object" && value !== null && "signDigest" in value),
  certificate: z.custom<Certificate>((value) => typeof value === "object" && value !== null && "issuerDer" in value),
  intermediates: certificatesSchema.optional(),
  signingTime: z.date().optional(),
  hash: z.enum(["sha256", "sha384", "sha512"]).default("sha256"),
});

/** Options of {@link signPe}. */
export interface SignPeOptions {
  /** private key; it sees a digest only */
  readonly signer: Signer;
  /** certificate of that key, which the signature carries */
  readonly certificate: Certificate;
  /** certificates between that one and one in db, which the signature carries too: firmware finds no others; at most 8 */
  readonly intermediates?: readonly Certificate[] | undefined;
  /** time the signature states, to the second; none when absent, so that signing again gives the same bytes */
  readonly signingTime?: Date | undefined;
  /** hash of image and signature; SHA-256, the only one all firmware knows, when absent */
  readonly hash?: HashName | undefined;
}

/**
 * Signs a PE image for Secure Boot (Authenticode) and attaches the signature after those it already has.
 *
 * @param image - The whole file; not modified.
 * @param options - Who signs, and what the signature states.
 * @returns The signed file: a new array, or a source of it when `image` is one. `writePe` signs on the way to a file.
 * @throws {UkiSignError} Any code of {@link authenticodeDigest} and `attachSignature`; `UKI_SIGN_KEY_MISMATCH` when key and
 *   certificate do not belong together; `UKI_SIGN_BAD_OPTIONS` for unknown or missing options.
 * @see Microsoft "Windows Authenticode Portable Executable Signature Format" (2008); UEFI 2.10 section 32.2.4
 * @example
 * const signed = await signPe(image, { signer: pemSigner(key), certificate: decodeCertificate(pem) });
 */
export async function signPe(image: Uint8Array, options: SignPeOptions): Promise<Uint8Array>;
export async function signPe(image: Bytes, options: SignPeOptions): Promise<Bytes>;
export async function signPe(image: Bytes, options: SignPeOptions): Promise<Bytes> {
  const { hash } = parseOptions(signPeSchema, options);
  return attachSignature(image, await makeSignature(authenticodeDigest(image, hash), options));
}

/** The signature about an image with this Authenticode digest. */
export async function makeSignature(digest: Uint8Array, options: SignPeOptions): Promise<Uint8Array> {
  const { signer, certificate, intermediates, signingTime, hash } = parseOptions(signPeSchema, options);
  const content = encodeIndirectData({ hash, digest });
  return await signCms({
    contentType: OID.spcIndirectData,
    content,
    signer,
    certificate,
    intermediates,
    signingTime,
    hash,
  });
}
