import { type Bytes, eachChunk, readBytes } from "../bytes/byte-source.ts";
import { JoinedBytes, type PlacedBytes, patchBytes } from "../bytes/joined.ts";
import { decodeCms, isNamedBy } from "../cms/decode.ts";
import { UkiSignError } from "../errors.ts";
import * as pe from "../format/pe.ts";
import { viewOf } from "../internal/bytes.ts";
import { ByteView } from "../pe/byte-view.ts";
import { decodePe, type PeImage } from "../pe/image.ts";
import type { Certificate } from "../x509/certificate.ts";
import { PeChecksum } from "./checksum.ts";
import { certificatePadding, contentSize } from "./digest.ts";

/** Most signatures {@link listSignatures} accepts in one file. */
export const DEFAULT_MAX_SIGNATURES = 16;

/** Largest certificate table that {@link listSignatures} reads, in bytes. */
export const DEFAULT_MAX_SIGNATURE_TABLE_BYTES = 32 * 1024 * 1024;

/** One entry of a PE image's certificate table. */
export interface PeSignature {
  /** position of the entry in the file, in `bytes` */
  readonly offset: number;
  /** `WIN_CERT_TYPE_*`; 2 is PKCS#7 SignedData, the only type Secure Boot reads from files */
  readonly type: number;
  /** PKCS#7 SignedData in DER without the alignment padding, a view of the image; other types as found */
  readonly data: Uint8Array;
}

/**
 * Lists the signatures attached to a PE image, without verifying any.
 *
 * @param image - The whole file; not modified.
 * @returns Entries in file order; empty for an unsigned image. `data` aliases `image` where that is in memory.
 * @throws {UkiSignError} Any code of {@link decodePe}; `UKI_SIGN_PE_INVALID` when the entries do not fill the table;
 *   `UKI_SIGN_TOO_LARGE` when there are more than {@link DEFAULT_MAX_SIGNATURES}, or together more than
 *   {@link DEFAULT_MAX_SIGNATURE_TABLE_BYTES}.
 * @see PE Format, "The Attribute Certificate Table (Image Only)"
 */
export function listSignatures(image: Bytes): PeSignature[] {
  return signaturesOf(image, decodePe(image));
}

/** {@link listSignatures} of an image that is already decoded. */
export function signaturesOf(image: Bytes, decoded: PeImage): PeSignature[] {
  if (decoded.certificates === undefined) return [];
  if (decoded.certificates.size > DEFAULT_MAX_SIGNATURE_TABLE_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_SIGNATURE_TABLE_BYTES} bytes of signatures, got ${decoded.certificates.size}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { offset: decoded.certificates.address });
  }
  const view = new ByteView(image);
  const signatures: PeSignature[] = [];
  const end = decoded.fileSize;
  let offset = decoded.certificates.address;
  while (offset < end) {
    if (signatures.length === DEFAULT_MAX_SIGNATURES) {
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected at most ${DEFAULT_MAX_SIGNATURES} signatures, got more`, {
        offset,
      });
    }
    const length = end - offset < pe.WIN_CERTIFICATE_HEADER_SIZE ? 0 : view.u32(offset, "a certificate entry");
    const revision = length === 0 ? 0 : view.u16(offset + pe.WIN_CERTIFICATE_REVISION, "a certificate entry");
    if (length <= pe.WIN_CERTIFICATE_HEADER_SIZE || length > end - offset || revision !== pe.WIN_CERT_REVISION_2_0) {
      throw new UkiSignError(
        "UKI_SIGN_PE_INVALID",
        `expected a certificate entry of 9 to ${end - offset} bytes and revision 2.0, ` +
          `got ${length} bytes and revision 0x${revision.toString(16)} (at byte ${offset})`,
        { offset },
      );
    }
    const type = view.u16(offset + pe.WIN_CERTIFICATE_TYPE, "a certificate entry");
    const data = readBytes(image, offset + pe.WIN_CERTIFICATE_HEADER_SIZE, length - pe.WIN_CERTIFICATE_HEADER_SIZE);
    signatures.push({ offset, type, data: type === pe.WIN_CERT_TYPE_PKCS_SIGNED_DATA ? trimDer(data) : data });
    // A last entry whose padding is missing is common and harmless.
    offset += length + certificatePadding(length);
  }
  return signatures;
}

/**
 * Appends a signature to a PE image.
 *
 * @param image - The whole file; not modified.
 * @param cms - PKCS#7 SignedData in DER, made over {@link authenticodeDigest}; copied.
 * @returns A new file, or a source of it: the image, zeros up to a multiple of 8, the earlier signatures and the new one.
 * @throws {UkiSignError} Any code of {@link listSignatures}; `UKI_SIGN_PE_UNSUPPORTED` when the image has no directory
 *   entry for a certificate table.
 */
export function attachSignature(image: Uint8Array, cms: Uint8Array): Uint8Array;
export function attachSignature(image: Bytes, cms: Uint8Array): Bytes;
export function attachSignature(image: Bytes, cms: Uint8Array): Bytes {
  const decoded = decodePe(image);
  return replaceSignatures(image, decoded, withSignature(image, decoded, cms));
}

/** What an image's certificate table holds after a signature is appended. */
export function withSignature(image: Bytes, decoded: PeImage, cms: Uint8Array): TableEntry[] {
  return [...signaturesOf(image, decoded), { type: pe.WIN_CERT_TYPE_PKCS_SIGNED_DATA, data: cms }];
}

/**
 * Removes signatures from a PE image.
 *
 * @param image - The whole file; not modified.
 * @param which - A signature counted from 0, or all those by a certificate; every signature when absent.
 * @returns A new file, or a source of it. Zeros that were added before the certificate table stay, because other signatures cover them.
 * @throws {UkiSignError} Any code of {@link listSignatures}; `UKI_SIGN_UNSIGNED` when there is no such signature.
 * @example
 * const withoutOurs = removeSignatures(image, decodeCertificate(await readFile("db.crt")));
 */
export function removeSignatures(image: Uint8Array, which?: number | Certificate): Uint8Array;
export function removeSignatures(image: Bytes, which?: number | Certificate): Bytes;
export function removeSignatures(image: Bytes, which?: number | Certificate): Bytes {
  const decoded = decodePe(image);
  const signatures = signaturesOf(image, decoded);
  const kept = signatures.filter(
    (signature, index) => which !== undefined && which !== index && !isBy(signature, which),
  );
  if (kept.length === signatures.length) {
    const wanted =
      typeof which === "number" ? `a signature with index ${which}` : `one by ${which?.subject ?? "anybody"}`;
    throw new UkiSignError("UKI_SIGN_UNSIGNED", `expected ${wanted}, got ${signatures.length} signatures`);
  }
  return replaceSignatures(image, decoded, kept);
}

function isBy({ type, data }: PeSignature, certificate: number | Certificate): boolean {
  if (typeof certificate === "number" || type !== pe.WIN_CERT_TYPE_PKCS_SIGNED_DATA) return false;
  try {
    return decodeCms(data).signers.some(({ identifier }) => isNamedBy(certificate, identifier));
  } catch (error) {
    // Whose a malformed signature is, nobody can say; it can be removed by its index.
    if (error instanceof UkiSignError) return false;
    throw error;
  }
}

/** An entry of the certificate table. */
export type TableEntry = Pick<PeSignature, "type" | "data">;

/** What changes in an image when its certificate table does; everything else stays. */
export interface TablePlan {
  /** position of the table, behind the zeros that align it */
  readonly tableOffset: number;
  readonly table: Uint8Array;
  /** the directory entry, for its place in the headers */
  readonly directory: Uint8Array;
}

/** Lays out a certificate table. */
export function planTable(decoded: PeImage, entries: readonly TableEntry[]): TablePlan {
  if (decoded.certificateDirectoryOffset === undefined) {
    throw new UkiSignError(
      "UKI_SIGN_PE_UNSUPPORTED",
      `expected an image with a directory entry for signatures, got ${decoded.directories.length} entries`,
      { offset: decoded.optionalHeaderOffset },
    );
  }
  const end = contentSize(decoded);
  const tableOffset = end + (entries.length === 0 ? 0 : certificatePadding(end));
  const sizes = entries.map(({ data }) => {
    const size = pe.WIN_CERTIFICATE_HEADER_SIZE + data.length;
    return size + certificatePadding(size);
  });
  const tableSize = sizes.reduce((sum, size) => sum + size, 0);
  if (tableOffset + tableSize > 0xffff_ffff) {
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected a file below 4 GiB, got ${tableOffset + tableSize} bytes`);
  }
  const table = new Uint8Array(tableSize);
  const view = new DataView(table.buffer);
  let offset = 0;
  for (const [index, { type, data }] of entries.entries()) {
    const size = sizes[index] ?? 0;
    // The length includes the padding: firmware finds the next entry either way, and some readers look nowhere else.
    view.setUint32(offset, size, true);
    view.setUint16(offset + pe.WIN_CERTIFICATE_REVISION, pe.WIN_CERT_REVISION_2_0, true);
    view.setUint16(offset + pe.WIN_CERTIFICATE_TYPE, type, true);
    table.set(data, offset + pe.WIN_CERTIFICATE_HEADER_SIZE);
    offset += size;
  }
  const directory = new Uint8Array(pe.DIRECTORY_SIZE);
  const entry = new DataView(directory.buffer);
  entry.setUint32(0, tableSize === 0 ? 0 : tableOffset, true);
  entry.setUint32(4, tableSize, true);
  return { tableOffset, table, directory };
}

function replaceSignatures(image: Bytes, decoded: PeImage, entries: readonly TableEntry[]): Bytes {
  const plan = planTable(decoded, entries);
  const { tableOffset, table } = plan;
  const checksum = new Uint8Array(4);
  const parts = [
    ...patchBytes(image, contentSize(decoded), patchesOf(decoded, plan, checksum)),
    { offset: tableOffset, bytes: table },
  ];
  const result = new JoinedBytes(parts, tableOffset + table.length);
  if (decoded.checksum !== 0) {
    const sum = new PeChecksum();
    eachChunk(result, 0, result.sizeBytes, (chunk) => sum.update(chunk));
    viewOf(checksum).setUint32(0, sum.value, true);
  }
  return image instanceof Uint8Array ? readBytes(result) : result;
}

/**
 * What changes in the headers: the directory entry, and the checksum where there is one. Nothing in UEFI reads it: 0 means
 * that nobody computed it, any other value has to stay right.
 */
export function patchesOf(decoded: PeImage, { directory }: TablePlan, checksum: Uint8Array): PlacedBytes[] {
  const { checksumOffset, certificateDirectoryOffset = 0 } = decoded;
  return [
    ...(decoded.checksum === 0 ? [] : [{ offset: checksumOffset, bytes: checksum }]),
    { offset: certificateDirectoryOffset, bytes: directory },
  ];
}

/** DER knows its own length; up to 7 zeros after it are alignment. */
function trimDer(data: Uint8Array): Uint8Array {
  const lengthOctet = data[1] ?? 0;
  const lengthSize = lengthOctet < 0x80 ? 0 : lengthOctet & 0x7f;
  if (data[0] !== 0x30 || lengthSize > 4) return data;
  let length = lengthSize === 0 ? lengthOctet : 0;
  for (const octet of data.subarray(2, 2 + lengthSize)) length = length * 256 + octet;
  const end = 2 + lengthSize + length;
  const rest = data.subarray(end);
  return rest.length < pe.CERTIFICATE_ALIGNMENT && rest.every((octet) => octet === 0) ? data.subarray(0, end) : data;
}
