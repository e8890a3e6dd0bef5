import * as z from "zod";
import { decodeCms } from "../cms/decode.ts";
import { signCms } from "../cms/sign.ts";
import { type VerifiedCms, verifyCms } from "../cms/verify.ts";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { parseOptions } from "../internal/options.ts";
import type { Signer } from "../keys/signer.ts";
import type { HashName } from "../rsa/scheme.ts";
import type { Certificate } from "../x509/certificate.ts";

/** Size of a verity signature partition as systemd-repart makes it, in bytes. */
export const VERITY_SIGNATURE_PARTITION_BYTES = 16 * 1024;

/** Largest verity signature partition that systemd reads, in bytes. */
export const DEFAULT_MAX_VERITY_SIGNATURE_BYTES = 4 * 1024 * 1024;

/** Digest sizes that dm-verity root hashes come in, in bytes: SHA-1 is left out on purpose. */
const ROOT_HASH_SIZES = [28, 32, 48, 64];

/** Options of {@link signRootHash}. */
export interface SignRootHashOptions {
  readonly signer: Signer;
  /** the signer's certificate; it names the signer in the result and is not embedded */
  readonly certificate: Certificate;
  /** hash of the signature, SHA-256 by default; independent of the hash that the tree uses */
  readonly hash?: HashName | undefined;
}

/** What a verity signature partition says. */
export interface VeritySignature {
  /** lower-case hex */
  readonly rootHash: string;
  /** SHA-256 of the signer's certificate, lower-case hex; undefined when the partition has none */
  readonly certificateFingerprint?: string | undefined;
  /** the detached PKCS#7 signature of the root hash's hex text, DER */
  readonly signature: Uint8Array;
}

/**
 * Signs a dm-verity root hash the way systemd and the kernel want it: detached PKCS#7 over the lower-case hex text of the
 * hash, without attributes and without certificates. This is the content of a `.roothash.p7s` file.
 *
 * @param rootHash - The root hash: its bytes, or hex text.
 * @param options - Key, certificate, hash.
 * @returns DER of the signature; the same for the same key, certificate and hash.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` when `rootHash` is none, and what {@link signCms} throws.
 * @see Linux `drivers/md/dm-verity-verify-sig.c`; systemd.image-policy(7) and veritytab(5) `root-hash-signature=`
 * @example
 * await writeFile("usr.roothash.p7s", await signRootHash(rootHash, { signer, certificate }));
 */
export async function signRootHash(rootHash: Uint8Array | string, options: SignRootHashOptions): Promise<Uint8Array> {
  return await signCms({
    ...options,
    content: new TextEncoder().encode(rootHashText(rootHash)),
    detached: true,
    attributes: "none",
    includeCertificate: false,
  });
}

/**
 * Verifies the signature of a dm-verity root hash.
 *
 * @param signature - DER of the signature.
 * @param rootHash - The root hash: its bytes, or hex text.
 * @param options - The trusted certificates, as in the kernel's keyring or `/etc/verity.d/*.crt`.
 * @returns Who signed.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` when `rootHash` is none, and what {@link verifyCms} throws.
 * @example
 * verifyRootHash(p7s, rootHash, { trusted: [certificate] });
 */
export function verifyRootHash(
  signature: Uint8Array,
  rootHash: Uint8Array | string,
  options: { readonly trusted: readonly Certificate[] },
): VerifiedCms {
  const cms = decodeCms(signature);
  if (cms.content !== undefined) {
    throw new UkiSignError("UKI_SIGN_CMS_INVALID", "expected a detached root hash signature, got embedded content");
  }
  return verifyCms(cms, { trusted: options.trusted, content: new TextEncoder().encode(rootHashText(rootHash)) });
}

/**
 * Encodes the content of a verity signature partition: JSON, padded with zero bytes.
 *
 * @param fields - Root hash, the signer's certificate, the signature from {@link signRootHash}.
 * @param options - `sizeBytes` of the partition, 16 KiB by default as systemd-repart makes it.
 * @returns Exactly `sizeBytes` bytes.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that do not fit, `UKI_SIGN_TOO_LARGE` when the text leaves no
 *   room for one zero byte.
 * @see Discoverable Partitions Specification, "Verity Data"; repart.d(5) v252 `Verity=signature`
 * @example
 * const partition = encodeVeritySignaturePartition({ rootHash, certificate, signature });
 */
export function encodeVeritySignaturePartition(
  fields: {
    readonly rootHash: Uint8Array | string;
    readonly certificate: Certificate;
    readonly signature: Uint8Array;
  },
  options: { readonly sizeBytes?: number | undefined } = {},
): Uint8Array {
  const { sizeBytes } = parseOptions(partitionOptionsSchema, options);
  const text = JSON.stringify({
    rootHash: rootHashText(fields.rootHash),
    certificateFingerprint: fields.certificate.fingerprint,
    signature: Buffer.from(fields.signature).toString("base64"),
  });
  const json = new TextEncoder().encode(text);
  if (json.length >= sizeBytes) {
    const message = `expected a verity signature of less than ${sizeBytes} bytes, got ${json.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const partition = new Uint8Array(sizeBytes);
  partition.set(json);
  return partition;
}

/**
 * Decodes the content of a verity signature partition. Nothing is verified: see {@link verifyVeritySignaturePartition}.
 *
 * @param partition - The partition, padding included or not.
 * @returns What it says; `signature` is a new array.
 * @throws {UkiSignError} `UKI_SIGN_VERITY_INVALID` when it is no such JSON or something other than zero bytes follows it,
 *   `UKI_SIGN_TOO_LARGE` when it is longer than {@link DEFAULT_MAX_VERITY_SIGNATURE_BYTES}.
 * @see systemd `src/shared/dissect-image.c` `dissected_image_load_verity_sig_partition`
 * @example
 * const { rootHash } = decodeVeritySignaturePartition(partition);
 */
export function decodeVeritySignaturePartition(partition: Uint8Array): VeritySignature {
  if (partition.length > DEFAULT_MAX_VERITY_SIGNATURE_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_VERITY_SIGNATURE_BYTES} bytes of verity signature, got ${partition.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const end = partition.indexOf(0);
  const json = end < 0 ? partition : partition.subarray(0, end);
  const stray = partition.subarray(json.length).findIndex((octet) => octet !== 0);
  if (stray >= 0) {
    const offset = json.length + stray;
    throw new UkiSignError("UKI_SIGN_VERITY_INVALID", `expected zero bytes after the JSON (at byte ${offset})`, {
      offset,
    });
  }
  const result = partitionSchema.safeParse(parseJson(json));
  if (!result.success) {
    throw new UkiSignError(
      "UKI_SIGN_VERITY_INVALID",
      `expected a verity signature, got: ${z.prettifyError(result.error)}`,
      {
        cause: result.error,
      },
    );
  }
  const { rootHash, certificateFingerprint, signature } = result.data;
  return { rootHash, certificateFingerprint, signature: new Uint8Array(Buffer.from(signature, "base64")) };
}

/**
 * Verifies a verity signature partition.
 *
 * @param partition - The partition, padding included or not.
 * @param options - The trusted certificates, and the root hash that the data partition is known to have.
 * @returns What the partition says, once all of it is right.
 * @throws {UkiSignError} What {@link decodeVeritySignaturePartition} and {@link verifyCms} throw;
 *   `UKI_SIGN_DIGEST_MISMATCH` when it is for another root hash, `UKI_SIGN_VERITY_INVALID` when it names another
 *   certificate than the signer's.
 * @example
 * verifyVeritySignaturePartition(partition, { rootHash, trusted: [certificate] });
 */
export function verifyVeritySignaturePartition(
  partition: Uint8Array,
  options: { readonly rootHash?: Uint8Array | string | undefined; readonly trusted: readonly Certificate[] },
): VeritySignature {
  const decoded = decodeVeritySignaturePartition(partition);
  if (options.rootHash !== undefined && rootHashText(options.rootHash) !== decoded.rootHash) {
    const message = `expected a signature of root hash ${rootHashText(options.rootHash)}, got one of ${decoded.rootHash}`;
    throw new UkiSignError("UKI_SIGN_DIGEST_MISMATCH", message);
  }
  const { signers } = verifyRootHash(decoded.signature, decoded.rootHash, options);
  const fingerprint = decoded.certificateFingerprint;
  if (fingerprint !== undefined && !signers.some(({ certificate }) => certificate.fingerprint === fingerprint)) {
    const message = `expected the signer's certificate, got fingerprint ${fingerprint}`;
    throw new UkiSignError("UKI_SIGN_VERITY_INVALID", message);
  }
  return decoded;
}

const rootHashSchema = z
  .string()
  .regex(/^(?:[0-9a-f]{2})+$/, "expected lower-case hex")
  .refine((text) => ROOT_HASH_SIZES.includes(text.length / 2), `expected ${ROOT_HASH_SIZES.join(", ")} bytes of hash`);

const partitionSchema = z.object({
  rootHash: rootHashSchema,
  certificateFingerprint: z
    .string()
    .regex(/^[0-9a-f]{64}$/, "expected a SHA-256 in lower-case hex")
    .optional(),
  signature: z.base64().min(1),
});

const partitionOptionsSchema = z.strictObject({
  sizeBytes: z.int().min(512).max(DEFAULT_MAX_VERITY_SIGNATURE_BYTES).default(VERITY_SIGNATURE_PARTITION_BYTES),
});

function rootHashText(rootHash: Uint8Array | string): string {
  const text = typeof rootHash === "string" ? rootHash.toLowerCase() : toHex(rootHash);
  return parseOptions(rootHashSchema, text);
}

function parseJson(json: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_VERITY_INVALID", "expected the JSON of a verity signature, got something else", {
      cause,
    });
  }
}
