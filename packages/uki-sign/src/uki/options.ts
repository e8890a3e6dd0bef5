import * as z from "zod";
import { type Bytes, bytesOrSourceSchema, sizeOf } from "../bytes/byte-source.ts";
import { MEASURED_SECTION_NAMES, STUB_SECTION_NAMES, TEXT_SECTION_NAMES } from "../format/uki.ts";
import { bytesSchema } from "../internal/options.ts";
import { sectionNameSchema } from "../pe/sections.ts";

/** Content that is not empty, in memory or not. */
export const contentSchema: z.ZodType<Bytes, Bytes> = bytesOrSourceSchema.refine(
  (bytes) => sizeOf(bytes) > 0,
  "expected at least one byte; leave the option out",
);

/** Text that is not empty. */
export const textSchema: z.ZodType<string, string> = z
  .string()
  .min(1, "expected text; leave the option out")
  .refine((value) => !value.includes("\0"), "expected text without NUL");

/** Either of both. */
export const textOrContentSchema: z.ZodType<string | Uint8Array, string | Uint8Array> = z.union([
  textSchema,
  bytesSchema.refine((bytes) => bytes.length > 0, "expected at least one byte; leave the option out"),
]);

const RESERVED: readonly string[] = [...STUB_SECTION_NAMES, ...TEXT_SECTION_NAMES, ...MEASURED_SECTION_NAMES];
const ownSectionName = sectionNameSchema.refine(
  (name) => !RESERVED.includes(name),
  "expected a name other than those with an option of their own",
);

/** What images, addons and profiles have in common. */
export const partsSchema = z.strictObject({
  /** systemd's stub program: `linuxx64.efi.stub` */
  stub: bytesOrSourceSchema,
  /** initrd, or several that are joined in order, each at a multiple of 4 bytes */
  initrd: z.union([contentSchema, z.array(contentSchema).min(1).readonly()]).optional(),
  /** kernel command line; runs of blanks and newlines become one blank, as the stub treats them */
  cmdline: textSchema
    .transform((line) => line.trim().split(/\s+/).join(" "))
    .pipe(textSchema)
    .optional(),
  /** kernel release as `uname -r` prints it */
  uname: textSchema.optional(),
  /** device tree, one for all machines */
  dtb: contentSchema.optional(),
  /** device trees of which the stub picks the one that fits the machine */
  dtbauto: z.array(contentSchema).readonly().default([]),
  /** hardware identifiers that `dtbauto` and `efifw` are picked by, see `encodeHardwareIds` */
  hwids: contentSchema.optional(),
  /** firmware of which the stub picks the one that fits the machine, see `encodeUkiFirmware`; stubs know it from 258 on */
  efifw: z.array(contentSchema).readonly().default([]),
  /** processor microcode, an uncompressed cpio */
  ucode: contentSchema.optional(),
  /** further sections, after the known ones */
  sections: z
    .array(z.strictObject({ name: ownSectionName, data: contentSchema }))
    .readonly()
    .default([]),
  /** PE `TimeDateStamp`, `seconds` since 1970; the stub's when absent */
  timeDateStamp: z.int().min(0).max(0xffff_ffff).optional(),
});
