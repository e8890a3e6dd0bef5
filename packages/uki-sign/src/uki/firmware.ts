import * as z from "zod";
import { EFIFW_HEADER_BYTES, EFIFW_MAGIC } from "../format/hwids.ts";
import { concat } from "../internal/bytes.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";

const optionsSchema = z.strictObject({
  id: z.string().regex(/^[^\0]+$/, "text without NUL"),
  data: bytesSchema.refine((bytes) => bytes.length > 0, "expected at least one byte"),
});

/**
 * Encodes an `.efifw` section: firmware that systemd-stub 258 and newer hands to machines whose `.hwids` entry names it.
 *
 * @param options - `id`, which a `.hwids` entry of type `uefi-fw` names, and `data`, the firmware.
 * @returns The section's content.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` when one of them is empty.
 * @see systemd 258 `src/boot/efi-firmware.h`
 */
export function encodeUkiFirmware(options: { readonly id: string; readonly data: Uint8Array }): Uint8Array {
  const { id, data } = parseOptions(optionsSchema, options);
  const name = new TextEncoder().encode(`${id}\0`);
  const header = new DataView(new ArrayBuffer(EFIFW_HEADER_BYTES));
  const fields = [EFIFW_MAGIC, EFIFW_HEADER_BYTES, name.length, data.length];
  for (const [index, field] of fields.entries()) header.setUint32(index * 4, field, true);
  return concat(new Uint8Array(header.buffer), name, data);
}
