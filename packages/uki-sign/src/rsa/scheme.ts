import { HASHES, OID } from "../format/oids.ts";
import {
  contextConstructed,
  type DerElement,
  type DerReader,
  der,
  derInteger,
  derNull,
  derOid,
  derSequence,
  into,
  readInteger,
  readOid,
  TAG,
} from "../internal/der.ts";

/** Hash algorithm of a signature. */
export type HashName = "sha256" | "sha384" | "sha512";

/** Hash algorithms of signatures, shortest first. */
export const HASH_NAMES = ["sha256", "sha384", "sha512"] as const satisfies readonly HashName[];

/** Ways to pad a digest before the RSA operation. */
export const RSA_PADDINGS = ["pkcs1", "pss"] as const;

/** `pkcs1` is RSASSA-PKCS1-v1_5, the only one that firmware, kernel and TPM policies know; `pss` is RSASSA-PSS. */
export type RsaPadding = (typeof RSA_PADDINGS)[number];

/** How a digest was signed. */
export interface RsaScheme {
  readonly hash: HashName;
  readonly padding: RsaPadding;
  /** length of the salt in `bytes`; 0 without one, always for `pkcs1` */
  readonly saltBytes: number;
}

/** The scheme that is used for signing: for PSS with a salt as long as the hash, as RFC 8017 section 9.1 recommends. */
export function schemeOf(hash: HashName, padding: RsaPadding): RsaScheme {
  return { hash, padding, saltBytes: padding === "pss" ? HASHES[hash].sizeBytes : 0 };
}

/** The AlgorithmIdentifier of a certificate's signature: RFC 5280 section 4.1.1.2, RFC 4055 sections 3.1 and 5. */
export function encodeSignatureAlgorithm({ hash, padding, saltBytes }: RsaScheme): Uint8Array {
  const { oid, rsaOid } = HASHES[hash];
  if (padding === "pkcs1") return derSequence(derOid(rsaOid), derNull());
  const hashAlgorithm = derSequence(derOid(oid), derNull());
  return derSequence(
    derOid(OID.rsassaPss),
    derSequence(
      der(contextConstructed(0), hashAlgorithm),
      der(contextConstructed(1), derSequence(derOid(OID.mgf1), hashAlgorithm)),
      der(contextConstructed(2), derInteger(saltBytes)),
    ),
  );
}

/**
 * The scheme that an AlgorithmIdentifier names; undefined for one that this package does not verify.
 *
 * @throws {UkiSignError} `UKI_SIGN_DER_INVALID` when the parameters of RSASSA-PSS are malformed.
 */
export function decodeSignatureAlgorithm(element: DerElement): RsaScheme | undefined {
  const reader = into(element);
  const oid = readOid(reader.next("algorithm", TAG.oid));
  const hash = HASH_NAMES.find((name) => HASHES[name].rsaOid === oid);
  if (hash !== undefined) return schemeOf(hash, "pkcs1");
  return oid === OID.rsassaPss ? readPssParameters(reader.enter("RSASSA-PSS parameters")) : undefined;
}

/** RFC 4055 section 3.1. The defaults are all about SHA-1, so a parameter that is absent is one that is not accepted. */
function readPssParameters(reader: DerReader): RsaScheme | undefined {
  const hashElement = reader.optional("hashAlgorithm", contextConstructed(0));
  const maskElement = reader.optional("maskGenAlgorithm", contextConstructed(1));
  const saltElement = reader.optional("saltLength", contextConstructed(2));
  const trailer = reader.optional("trailerField", contextConstructed(3));
  reader.end("RSASSA-PSS parameters");
  const hash = hashElement && readHash(into(hashElement).enter("hashAlgorithm"));
  const mask = maskElement && into(maskElement).enter("maskGenAlgorithm");
  const generator = mask && readOid(mask.next("mask generation function", TAG.oid));
  const maskHash = generator === OID.mgf1 ? mask && readHash(mask.enter("hash of the mask")) : undefined;
  const salt = saltElement === undefined ? 20n : readInteger(into(saltElement).next("saltLength", TAG.integer));
  const trailerField = trailer === undefined ? 1n : readInteger(into(trailer).next("trailerField", TAG.integer));
  // A salt longer than any key is cannot verify; the bound only keeps the number exact.
  if (hash === undefined || maskHash !== hash || trailerField !== 1n || salt < 0n || salt > 0xffffn) return undefined;
  return { hash, padding: "pss", saltBytes: Number(salt) };
}

function readHash(reader: DerReader): HashName | undefined {
  const oid = readOid(reader.next("hash algorithm", TAG.oid));
  return HASH_NAMES.find((name) => HASHES[name].oid === oid);
}
