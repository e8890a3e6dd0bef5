import { UkiSignError } from "../errors.ts";
import { EFI_TIME_BYTES } from "../format/efi.ts";
import { viewOf } from "../internal/bytes.ts";

/** Years of an EFI_TIME, UEFI 2.10 section 8.3. */
const MIN_YEAR = 1900;
const MAX_YEAR = 9999;

/**
 * EFI_TIME as authenticated variables need it: UTC to the second, everything else zero (UEFI 2.10 section 8.2.2).
 * `undefined` is all zeros, which is what variables without a time have.
 */
export function encodeEfiTime(time: Date | undefined): Uint8Array {
  const octets = new Uint8Array(EFI_TIME_BYTES);
  if (time === undefined) return octets;
  const year = time.getUTCFullYear();
  if (!(year >= MIN_YEAR && year <= MAX_YEAR)) {
    const message = `expected a time in the years ${MIN_YEAR} to ${MAX_YEAR}, got ${year}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "timestamp" });
  }
  new DataView(octets.buffer).setUint16(0, year, true);
  octets[2] = time.getUTCMonth() + 1;
  octets[3] = time.getUTCDate();
  octets[4] = time.getUTCHours();
  octets[5] = time.getUTCMinutes();
  octets[6] = time.getUTCSeconds();
  return octets;
}

/** The time that {@link encodeEfiTime} encodes to these bytes; `"invalid"` when there is none. */
export function decodeEfiTime(octets: Uint8Array): Date | undefined | "invalid" {
  const bytes = octets.subarray(0, EFI_TIME_BYTES);
  if (bytes.every((octet) => octet === 0)) return undefined;
  const year = viewOf(bytes).getUint16(0, true);
  const [month = 0, day = 0, hour = 0, minute = 0, second = 0] = bytes.subarray(2, 7);
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, day);
  time.setUTCHours(hour, minute, second);
  // A date that does not exist became another one, out of the range of years as well.
  const exists = time.getUTCFullYear() === year && year >= MIN_YEAR && year <= MAX_YEAR;
  return exists && Buffer.compare(encodeEfiTime(time), bytes) === 0 ? time : "invalid";
}
