import { UkiSignError } from "../errors.ts";
import { HASHES } from "../format/oids.ts";
import * as spc from "../format/spc.ts";
import {
  contextConstructed,
  contextPrimitive,
  DerReader,
  der,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  readOid,
  TAG,
} from "../internal/der.ts";
import type { HashName } from "../rsa/scheme.ts";

/** What an Authenticode signature says about its image. */
export interface IndirectData {
  /** hash algorithm of `digest` */
  readonly hash: HashName;
  /** digest of the image, a view of the input */
  readonly digest: Uint8Array;
}

/**
 * Encodes the SpcIndirectDataContent that is signed in place of a PE image.
 *
 * @param data - Digest of the image and its algorithm.
 * @returns DER of the SEQUENCE.
 * @throws {UkiSignError} `UKI_SIGN_AUTHENTICODE_INVALID` when the digest is not as long as its algorithm's are: firmware
 *   looks at the end of a longer one only.
 * @see Windows Authenticode PE Signature Format, "SpcIndirectDataContent", "SpcPeImageData"
 */
export function encodeIndirectData({ hash, digest }: IndirectData): Uint8Array {
  assertDigestSize(hash, digest);
  const name = Buffer.from(spc.SPC_FILE_NAME, "utf16le").swap16();
  const file = der(contextConstructed(spc.SPC_LINK_FILE), der(contextPrimitive(spc.SPC_STRING_UNICODE), name));
  // `flags` is a BIT STRING without bits.
  const imageData = derSequence(
    der(TAG.bitString, Uint8Array.of(0)),
    der(contextConstructed(spc.SPC_IMAGE_FILE), file),
  );
  return derSequence(
    derSequence(derOid(spc.OID_SPC_PE_IMAGE_DATA), imageData),
    derSequence(derSequence(derOid(HASHES[hash].oid), derNull()), derOctetString(digest)),
  );
}

/**
 * Decodes a SpcIndirectDataContent.
 *
 * @param content - DER of the SEQUENCE; aliased by the result.
 * @returns The image's digest and its algorithm. The SpcPeImageData, which nothing covers with meaning, is not looked at.
 * @throws {UkiSignError} `UKI_SIGN_DER_INVALID` when `content` is not the expected DER,
 *   `UKI_SIGN_AUTHENTICODE_INVALID` when it is about something else than a PE image or its digest is not SHA-256,
 *   SHA-384 or SHA-512.
 */
export function decodeIndirectData(content: Uint8Array): IndirectData {
  const outer = new DerReader(content);
  const reader = outer.enter("SpcIndirectDataContent");
  outer.end("SpcIndirectDataContent");

  const data = reader.enter("SpcAttributeTypeAndOptionalValue");
  const type = readOid(data.next("its type", TAG.oid));
  if (type !== spc.OID_SPC_PE_IMAGE_DATA && type !== spc.OID_SPC_INDIVIDUAL_CODE_SIGNING)
    throw invalid(`the type of PE image data, got ${type}`);

  const messageDigest = reader.enter("DigestInfo");
  reader.end("SpcIndirectDataContent");
  const algorithm = readOid(messageDigest.enter("its algorithm").next("the algorithm's identifier", TAG.oid));
  const digest = messageDigest.next("the digest", TAG.octetString).contents;
  messageDigest.end("DigestInfo");

  for (const hash of ["sha256", "sha384", "sha512"] as const) {
    if (HASHES[hash].oid !== algorithm) continue;
    assertDigestSize(hash, digest);
    return { hash, digest };
  }
  throw invalid(`a SHA-256, SHA-384 or SHA-512 digest, got algorithm ${algorithm}`);
}

function assertDigestSize(hash: HashName, digest: Uint8Array): void {
  const { sizeBytes } = HASHES[hash];
  if (digest.length !== sizeBytes) throw invalid(`a ${hash} digest of ${sizeBytes} bytes, got ${digest.length}`);
}

function invalid(expectation: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_AUTHENTICODE_INVALID", `expected ${expectation}`);
}
