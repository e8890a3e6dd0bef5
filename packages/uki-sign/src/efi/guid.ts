import { UkiSignError } from "../errors.ts";
import { copyBytes } from "../internal/bytes.ts";

const GUID_TEXT = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;

/** Whether `text` is a GUID in its text form, in either case. */
export function isGuid(text: string): boolean {
  return GUID_TEXT.test(text.toLowerCase());
}

/**
 * Encodes a GUID: the first three fields little-endian, the rest as it is written.
 *
 * @param text - `8be4df61-93ca-11d2-aa0d-00e098032b8c`, in either case.
 * @returns 16 bytes.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` when `text` is no GUID.
 * @see UEFI 2.10 appendix A
 */
export function encodeGuid(text: string): Uint8Array {
  if (!isGuid(text)) {
    throw new UkiSignError(
      "UKI_SIGN_BAD_OPTIONS",
      `expected a GUID like 8be4df61-93ca-11d2-aa0d-00e098032b8c, got ${text}`,
    );
  }
  const octets = new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex"));
  return swapFields(octets);
}

/**
 * Decodes a GUID.
 *
 * @param octets - At least 16 bytes; the first 16 are read.
 * @returns Its text form, in lower case.
 */
export function decodeGuid(octets: Uint8Array): string {
  const hex = Buffer.from(swapFields(copyBytes(octets, 0, 16))).toString("hex");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function swapFields(octets: Uint8Array): Uint8Array {
  octets.subarray(0, 4).reverse();
  octets.subarray(4, 6).reverse();
  octets.subarray(6, 8).reverse();
  return octets;
}
