import { UkiSignError } from "../errors.ts";
import { SIGNATURE_LIST_HEADER_BYTES, SIGNATURE_OWNER_BYTES, SIGNATURE_TYPES } from "../format/efi.ts";
import { concat, copyBytes, viewOf } from "../internal/bytes.ts";
import type { Certificate } from "../x509/certificate.ts";
import { decodeGuid, encodeGuid } from "./guid.ts";

/** Longest signature database that is decoded, in bytes. */
export const DEFAULT_MAX_SIGNATURE_DATABASE_BYTES = 4 * 1024 * 1024;

/** Kinds of signatures that are known by name. */
export type SignatureType = keyof typeof SIGNATURE_TYPES;

/** One entry of a list: a certificate, a hash. */
export interface EfiSignature {
  /** GUID of whoever put it there, lower case */
  readonly owner: string;
  readonly data: Uint8Array;
}

/** An EFI_SIGNATURE_LIST: signatures of one type and one size. */
export interface SignatureList {
  /** name of the type; its GUID, lower case, when it has no name here */
  readonly type: SignatureType | (string & {});
  /** SignatureHeader, which no known type has */
  readonly header?: Uint8Array | undefined;
  readonly signatures: readonly EfiSignature[];
}

/**
 * Signature lists of certificates, one list each, because certificates differ in size.
 *
 * @param certificates - The certificates.
 * @param owner - GUID of whoever puts them there.
 * @returns The lists, in the same order.
 * @example
 * const db = encodeSignatureLists(certificateLists([certificate], owner));
 */
export function certificateLists(certificates: readonly Certificate[], owner: string): SignatureList[] {
  return certificates.map(({ der }) => ({ type: "x509", signatures: [{ owner, data: der }] }));
}

/** What is put into a signature database: certificates, and lists of anything else. */
export type SignatureDatabase = readonly (Certificate | SignatureList)[];

/**
 * Encodes a signature database from certificates and lists.
 *
 * @param database - Certificates, which get a list each, and lists, in order.
 * @param owner - GUID that the certificates' lists name.
 * @returns The EFI_SIGNATURE_LIST structures, one after the other.
 * @throws {UkiSignError} What {@link encodeSignatureLists} throws.
 * @example
 * const db = encodeSignatureDatabase([certificate, ...decodeSignatureLists(more)], owner);
 */
export function encodeSignatureDatabase(database: SignatureDatabase, owner: string): Uint8Array {
  return encodeSignatureLists(database.flatMap((item) => ("der" in item ? certificateLists([item], owner) : [item])));
}

/**
 * Encodes a signature database: the value of PK, KEK, db or dbx.
 *
 * @param lists - The lists, in order.
 * @returns The EFI_SIGNATURE_LIST structures, one after the other.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for an owner or type that is no GUID, `UKI_SIGN_SIGNATURE_LIST_INVALID` for a
 *   list without signatures, or with signatures of different sizes or of the wrong size for their type.
 * @see UEFI 2.10 section 32.4.1
 * @example
 * const dbx = encodeSignatureLists([{ type: "sha256", signatures: [{ owner, data: digest }] }]);
 */
export function encodeSignatureLists(lists: readonly SignatureList[]): Uint8Array {
  return concat(...lists.map(encodeSignatureList));
}

/**
 * Decodes a signature database: the value of PK, KEK, db or dbx, or the content of an `.esl` file.
 *
 * @param database - The EFI_SIGNATURE_LIST structures.
 * @returns The lists, in order; their data is copied.
 * @throws {UkiSignError} `UKI_SIGN_SIGNATURE_LIST_INVALID` when sizes contradict each other or the input,
 *   `UKI_SIGN_TOO_LARGE` when it is longer than {@link DEFAULT_MAX_SIGNATURE_DATABASE_BYTES}.
 * @see UEFI 2.10 section 32.4.1
 * @example
 * for (const { type, signatures } of decodeSignatureLists(await readFile("db.esl"))) console.log(type, signatures.length);
 */
export function decodeSignatureLists(database: Uint8Array): SignatureList[] {
  if (database.length > DEFAULT_MAX_SIGNATURE_DATABASE_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_SIGNATURE_DATABASE_BYTES} bytes of signatures, got ${database.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const lists: SignatureList[] = [];
  for (let offset = 0; offset < database.length; ) {
    const { list, sizeBytes } = decodeSignatureList(database.subarray(offset), offset);
    lists.push(list);
    offset += sizeBytes;
  }
  return lists;
}

function encodeSignatureList({ type, header = new Uint8Array(), signatures }: SignatureList): Uint8Array {
  const [first] = signatures;
  if (first === undefined) throw badList(`expected a signature in the list of ${type}, got none`);
  const known = knownType(type);
  for (const { data } of signatures) {
    const expected = known?.sizeBytes ?? first.data.length;
    if (data.length !== expected) throw badList(`expected ${type} signatures of ${expected} bytes, got ${data.length}`);
  }
  const signatureSize = SIGNATURE_OWNER_BYTES + first.data.length;
  const sizes = new DataView(new ArrayBuffer(12));
  sizes.setUint32(0, SIGNATURE_LIST_HEADER_BYTES + header.length + signatures.length * signatureSize, true);
  sizes.setUint32(4, header.length, true);
  sizes.setUint32(8, signatureSize, true);
  const entries = signatures.flatMap(({ owner, data }) => [encodeGuid(owner), data]);
  return concat(encodeGuid(known?.guid ?? type), new Uint8Array(sizes.buffer), header, ...entries);
}

function decodeSignatureList(bytes: Uint8Array, offset: number): { list: SignatureList; sizeBytes: number } {
  if (bytes.length < SIGNATURE_LIST_HEADER_BYTES) {
    throw badList(
      `expected a signature list header of ${SIGNATURE_LIST_HEADER_BYTES} bytes, got ${bytes.length}`,
      offset,
    );
  }
  const view = viewOf(bytes);
  const listSize = view.getUint32(16, true);
  const headerSize = view.getUint32(20, true);
  const signatureSize = view.getUint32(24, true);
  if (listSize > bytes.length)
    throw badList(`expected ${listSize} bytes of signature list, got ${bytes.length}`, offset);
  const signaturesSize = listSize - SIGNATURE_LIST_HEADER_BYTES - headerSize;
  if (signatureSize <= SIGNATURE_OWNER_BYTES || signaturesSize <= 0 || signaturesSize % signatureSize !== 0) {
    const sizes = `list ${listSize}, header ${headerSize}, signature ${signatureSize}`;
    throw badList(`expected a whole number of signatures in the list, got sizes ${sizes}`, offset);
  }
  const guid = decodeGuid(bytes);
  const type = (Object.keys(SIGNATURE_TYPES) as SignatureType[]).find((name) => SIGNATURE_TYPES[name].guid === guid);
  const fixed = type && SIGNATURE_TYPES[type].sizeBytes;
  if (fixed !== undefined && signatureSize !== SIGNATURE_OWNER_BYTES + fixed) {
    throw badList(
      `expected ${type} signatures of ${fixed} bytes, got ${signatureSize - SIGNATURE_OWNER_BYTES}`,
      offset,
    );
  }
  const signatures: EfiSignature[] = [];
  for (let at = SIGNATURE_LIST_HEADER_BYTES + headerSize; at < listSize; at += signatureSize) {
    const data = copyBytes(bytes, at + SIGNATURE_OWNER_BYTES, at + signatureSize);
    signatures.push({ owner: decodeGuid(bytes.subarray(at)), data });
  }
  const header = copyBytes(bytes, SIGNATURE_LIST_HEADER_BYTES, SIGNATURE_LIST_HEADER_BYTES + headerSize);
  const list = { type: type ?? guid, ...(headerSize > 0 ? { header } : {}), signatures };
  return { list, sizeBytes: listSize };
}

function knownType(type: string): { readonly guid: string; readonly sizeBytes: number | undefined } | undefined {
  return Object.hasOwn(SIGNATURE_TYPES, type) ? SIGNATURE_TYPES[type as SignatureType] : undefined;
}

function badList(message: string, offset?: number): UkiSignError {
  const where = offset === undefined ? "" : ` (at byte ${offset})`;
  return new UkiSignError("UKI_SIGN_SIGNATURE_LIST_INVALID", `${message}${where}`, { offset });
}
