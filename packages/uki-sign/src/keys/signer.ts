import {
  constants,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  privateEncrypt,
} from "node:crypto";
import { UkiSignError } from "../errors.ts";
import { HASHES } from "../format/oids.ts";
import { encodeDigestInfo } from "../rsa/pkcs1.ts";
import { encodePss } from "../rsa/pss.ts";
import type { HashName, RsaPadding } from "../rsa/scheme.ts";
import { decodePem } from "./pem.ts";

/** Shortest RSA key that is accepted anywhere, in bits: what UEFI and the kernel expect at least. */
export const MIN_RSA_BITS = 2048;

/** Longest RSA key that is accepted anywhere, in bits: longer ones cost minutes and no firmware takes them. */
export const MAX_RSA_BITS = 8192;

/**
 * A private key, wherever it lives; it sees digests only, never what is signed.
 */
export interface Signer {
  readonly keyType: "rsa";
  /** modulus length in `bits` */
  readonly keyBits: number;
  /**
   * Signs a digest with RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.1, from the DigestInfo of step 2 on), or with RSASSA-PSS
   * (section 8.1.1) with `hash` in MGF1 too and a salt as long as the digest.
   *
   * @param hash - Algorithm that made the digest.
   * @param digest - The digest, exactly as long as `hash` makes it.
   * @param padding - `pkcs1` when absent. A signer that cannot do `pss` need not look: what it returns is verified.
   * @returns The signature, as long as the modulus.
   */
  signDigest(hash: HashName, digest: Uint8Array, padding?: RsaPadding): Promise<Uint8Array>;
  /** Does the same for several digests at once, for signers that ask somebody each time; the signatures in their order. */
  signDigests?(
    digests: readonly { readonly hash: HashName; readonly digest: Uint8Array }[],
    padding?: RsaPadding,
  ): Promise<Uint8Array[]>;
}

/** A signer whose public key is at hand. */
export interface PemSigner extends Signer {
  /** SubjectPublicKeyInfo, DER */
  readonly publicKey: Uint8Array;
}

/** Options of {@link pemSigner}. */
export interface PemSignerOptions {
  /** passphrase of an encrypted key */
  readonly passphrase?: string | undefined;
}

/** Largest public exponent that is accepted anywhere: 65537 is in use, and one as long as the modulus costs a second a signature. */
const MAX_RSA_EXPONENT = 2n ** 32n;

const PRIVATE_LABELS = ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY"];

/**
 * A signer from an RSA private key in PEM: PKCS#8 or PKCS#1, in the clear or encrypted.
 *
 * @param pem - The text of the file, or its bytes; not retained.
 * @param options - The passphrase, for an encrypted key.
 * @returns The signer. Its key stays in the memory of this process until the signer is collected.
 * @throws {UkiSignError} `UKI_SIGN_KEY_INVALID` when `pem` holds no readable private key, `UKI_SIGN_PASSPHRASE` when it is
 *   encrypted and the passphrase is missing or wrong, `UKI_SIGN_KEY_UNSUPPORTED` when the key is not RSA of 2048 to 8192
 *   bits, or its public exponent is even, below 3 or above 2^32. No message and no cause ever holds a byte of the key.
 * @see RFC 7468 (PEM), RFC 5958 (PKCS#8), RFC 8017 appendix A.1.2 (PKCS#1)
 * @example
 * const signer = pemSigner(await readFile("db.key"));
 */
export function pemSigner(pem: string | Uint8Array, options: PemSignerOptions = {}): PemSigner {
  const key = readPrivateKey(pem, options.passphrase);
  const keyBits = requireRsa(key);
  const publicKey = createPublicKey(key).export({ format: "der", type: "spki" });
  return {
    keyType: "rsa",
    keyBits,
    publicKey: new Uint8Array(publicKey),
    async signDigest(hash, digest, padding = "pkcs1") {
      if (padding === "pss") return signPss(key, keyBits, hash, digest);
      const padded = { key, padding: constants.RSA_PKCS1_PADDING };
      return new Uint8Array(privateEncrypt(padded, encodeDigestInfo(hash, digest)));
    },
  };
}

/**
 * The salt comes from key and digest, as RFC 6979 does for the nonce of ECDSA: nobody else can predict it, and the same
 * input gives the same signature.
 */
function signPss(key: KeyObject, keyBits: number, hash: HashName, digest: Uint8Array): Uint8Array {
  const secret = createHash("sha512")
    .update(key.export({ format: "der", type: "pkcs1" }))
    .digest();
  const salt = createHmac("sha512", secret).update(hash).update(digest).digest().subarray(0, HASHES[hash].sizeBytes);
  const encoded = encodePss(hash, digest, salt, keyBits);
  if (encoded === undefined) throw new Error("bug: a key of 2048 bits without room for a digest");
  return new Uint8Array(privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, encoded));
}

/** Whether the private key in a PEM file is encrypted. */
export function isEncryptedKey(pem: string | Uint8Array): boolean {
  return findPrivateKey(pem).encrypted;
}

function readPrivateKey(pem: string | Uint8Array, passphrase: string | undefined): KeyObject {
  const { label, encrypted } = findPrivateKey(pem);
  if (encrypted && passphrase === undefined) {
    throw new UkiSignError("UKI_SIGN_PASSPHRASE", "expected a passphrase for the encrypted private key, got none", {
      hint: "give the passphrase in a file or on a file descriptor",
    });
  }
  try {
    return createPrivateKey({
      key: typeof pem === "string" ? pem : Buffer.from(pem),
      format: "pem",
      ...(encrypted ? { passphrase } : {}),
    });
  } catch (error) {
    // OpenSSL's own error is not kept as the cause: nothing that touched the key leaves here.
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    if (encrypted) {
      // What a wrong passphrase decrypts to is seldom told from a damaged key.
      const message = "expected the passphrase of the encrypted private key, got one that does not fit";
      throw new UkiSignError("UKI_SIGN_PASSPHRASE", message, {
        hint: `unless the key itself is damaged (OpenSSL says ${reason})`,
      });
    }
    throw new UkiSignError("UKI_SIGN_KEY_INVALID", `expected an intact ${label.toLowerCase()}, got ${reason}`);
  }
}

function findPrivateKey(pem: string | Uint8Array): { label: string; encrypted: boolean } {
  const blocks = decodePem(pem);
  const key = blocks.find(({ label }) => label.endsWith("PRIVATE KEY"));
  if (key === undefined) {
    const found = blocks.length === 0 ? "no PEM block" : blocks.map(({ label }) => label).join(", ");
    throw new UkiSignError("UKI_SIGN_KEY_INVALID", `expected a private key in PEM, got ${found}`, {
      hint: "a key starts with -----BEGIN PRIVATE KEY-----",
    });
  }
  if (key.label === "EC PRIVATE KEY" || key.label === "DSA PRIVATE KEY") {
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", `expected an RSA key, got ${key.label}`);
  }
  if (!PRIVATE_LABELS.includes(key.label)) {
    throw new UkiSignError("UKI_SIGN_KEY_INVALID", `expected a PKCS#8 or PKCS#1 key, got ${key.label}`, {
      hint: "convert it: openssl pkey -in KEY -out KEY.pem",
    });
  }
  return { label: key.label, encrypted: key.label === "ENCRYPTED PRIVATE KEY" || key.encrypted };
}

/** The length of an RSA key, in bits, if it is one that is accepted. */
export function requireRsa(key: KeyObject): number {
  const keyBits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType !== "rsa") {
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", `expected an RSA key, got ${key.asymmetricKeyType}`);
  }
  if (keyBits < MIN_RSA_BITS || keyBits > MAX_RSA_BITS) {
    const message = `expected an RSA key of ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits, got ${keyBits}`;
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", message);
  }
  requireExponent(key);
  return keyBits;
}

/** Refuses public exponents that no key has for a good reason, and those that make verifying slow. */
export function requireExponent(key: KeyObject): void {
  const exponent = key.asymmetricKeyDetails?.publicExponent ?? 0n;
  if (exponent % 2n === 1n && exponent >= 3n && exponent <= MAX_RSA_EXPONENT) return;
  const actual = exponent > MAX_RSA_EXPONENT ? `one of ${exponent.toString(2).length} bits` : String(exponent);
  const message = `expected an odd public exponent of 3 to ${MAX_RSA_EXPONENT}, got ${actual}`;
  throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", message);
}
