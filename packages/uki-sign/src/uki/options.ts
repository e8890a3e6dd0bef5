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

// As ukify does it: blanks in text mean nothing, a file is taken as it is.
const cmdlineSchema = z.union([
  textSchema.transform((line) => line.trim().split(/\s+/).join(" ")).pipe(textSchema),
  bytesSchema.refine((bytes) => bytes.length > 0, "expected at least one byte; leave the option out"),
]);

/** What images, addons and profiles have in common. */
export const partsSchema = z.strictObject({
  stub: bytesOrSourceSchema,
  initrd: z.union([contentSchema, z.array(contentSchema).min(1).readonly()]).optional(),
  cmdline: cmdlineSchema.optional(),
  uname: textSchema.optional(),
  dtb: contentSchema.optional(),
  dtbauto: z.array(contentSchema).readonly().default([]),
  hwids: contentSchema.optional(),
  efifw: z.array(contentSchema).readonly().default([]),
  ucode: contentSchema.optional(),
  sections: z
    .array(z.strictObject({ name: ownSectionName, data: contentSchema }))
    .readonly()
    .default([]),
  timeDateStamp: z.int().min(0).max(0xffff_ffff).optional(),
});
