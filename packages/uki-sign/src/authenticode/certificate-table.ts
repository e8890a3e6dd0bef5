import { decodeCms, isNamedBy } from "../cms/decode.ts";
import { UkiSignError } from "../errors.ts";
import * as pe from "../format/pe.ts";
import { ByteView } from "../pe/byte-view.ts";
import { decodePe, type PeImage } from "../pe/image.ts";
import type { Certificate } from "../x509/certificate.ts";
import { certificatePadding } from "./digest.ts";

/** Most signatures {@link listSignatures} accepts in one file. */
export const DEFAULT_MAX_SIGNATURES = 16;

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
 * @returns Entries in file order; empty for an unsigned image. `data` aliases `image`.
 * @throws {UkiSignError} Any code of {@link decodePe}; `UKI_SIGN_PE_INVALID` when the entries do not fill the table;
 *   `UKI_SIGN_TOO_LARGE` when there are more than {@link DEFAULT_MAX_SIGNATURES}.
 * @see PE Format, "The Attribute Certificate Table (Image Only)"
 */
export function listSignatures(image: Uint8Array): PeSignature[] {
  return signaturesOf(image, decodePe(image));
}

/** {@link listSignatures} of an image that is already decoded. */
export function signaturesOf(image: Uint8Array, decoded: PeImage): PeSignature[] {
  if (decoded.certificates === undefined) return [];
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
    const data = image.subarray(offset + pe.WIN_CERTIFICATE_HEADER_SIZE, offset + length);
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
 * @returns A new file: the image, zeros up to a multiple of 8, the earlier signatures and the new one.
 * @throws {UkiSignError} Any code of {@link listSignatures}; `UKI_SIGN_PE_UNSUPPORTED` when the image has no directory
 *   entry for a certificate table.
 */
export function attachSignature(image: Uint8Array, cms: Uint8Array): Uint8Array {
  const decoded = decodePe(image);
  return replaceSignatures(image, decoded, [
    ...signaturesOf(image, decoded),
    { type: pe.WIN_CERT_TYPE_PKCS_SIGNED_DATA, data: cms },
  ]);
}

/**
 * Removes signatures from a PE image.
 *
 * @param image - The whole file; not modified.
 * @param which - A signature counted from 0, or all those by a certificate; every signature when absent.
 * @returns A new file. Zeros that were added before the certificate table stay, because other signatures cover them.
 * @throws {UkiSignError} Any code of {@link listSignatures}; `UKI_SIGN_UNSIGNED` when there is no such signature.
 * @example
 * const withoutOurs = removeSignatures(image, decodeCertificate(await readFile("db.crt")));
 */
export function removeSignatures(image: Uint8Array, which?: number | Certificate): Uint8Array {
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

function replaceSignatures(
  image: Uint8Array,
  decoded: PeImage,
  signatures: readonly Pick<PeSignature, "type" | "data">[],
): Uint8Array {
  if (decoded.certificateDirectoryOffset === undefined) {
    throw new UkiSignError(
      "UKI_SIGN_PE_UNSUPPORTED",
      `expected an image with a directory entry for signatures, got ${decoded.directories.length} entries`,
      { offset: decoded.optionalHeaderOffset },
    );
  }
  const contentEnd = decoded.certificates?.address ?? decoded.fileSize;
  const tableOffset = contentEnd + (signatures.length === 0 ? 0 : certificatePadding(contentEnd));
  const entrySizes = signatures.map(({ data }) => {
    const size = pe.WIN_CERTIFICATE_HEADER_SIZE + data.length;
    return size + certificatePadding(size);
  });
  const tableSize = entrySizes.reduce((sum, size) => sum + size, 0);
  if (tableOffset + tableSize > 0xffff_ffff) {
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected a file below 4 GiB, got ${tableOffset + tableSize} bytes`);
  }

  const result = new Uint8Array(tableOffset + tableSize);
  result.set(image.subarray(0, contentEnd));
  const view = new DataView(result.buffer);
  view.setUint32(decoded.certificateDirectoryOffset, tableSize === 0 ? 0 : tableOffset, true);
  view.setUint32(decoded.certificateDirectoryOffset + 4, tableSize, true);
  let offset = tableOffset;
  for (const [index, { type, data }] of signatures.entries()) {
    const size = entrySizes[index] ?? 0;
    // The length includes the padding: firmware finds the next entry either way, and some readers look nowhere else.
    view.setUint32(offset, size, true);
    view.setUint16(offset + pe.WIN_CERTIFICATE_REVISION, pe.WIN_CERT_REVISION_2_0, true);
    view.setUint16(offset + pe.WIN_CERTIFICATE_TYPE, type, true);
    result.set(data, offset + pe.WIN_CERTIFICATE_HEADER_SIZE);
    offset += size;
  }
  // Nothing in UEFI reads the checksum: 0 means that nobody computed it, any other value has to stay right.
  if (decoded.checksum !== 0) {
    view.setUint32(decoded.checksumOffset, 0, true);
    view.setUint32(decoded.checksumOffset, peChecksum(view), true);
  }
  return result;
}

/** One's complement sum of 16-bit words over a file whose checksum field is 0, plus its size; the sum stays below 2^53. */
function peChecksum(view: DataView): number {
  const even = view.byteLength & ~1;
  let sum = 0;
  for (let offset = 0; offset < even; offset += 2) sum += view.getUint16(offset, true);
  if (even !== view.byteLength) sum += view.getUint8(even);
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  return sum + view.byteLength;
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
