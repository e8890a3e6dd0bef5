import { z } from "zod";
import { UkiSignError } from "../errors.ts";
import { DLL_NX_COMPAT, SCN_CNT_CODE, SCN_MEM_READ } from "../format/pe.ts";
import {
  INITRD_ALIGNMENT,
  MEASURED_SECTION_NAMES,
  SBAT_ADDON,
  SBAT_HEADER,
  SBAT_UKI,
  STUB_SECTION_NAMES,
  TEXT_SECTION_NAMES,
} from "../format/uki.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import { decodePe, type PeImage, readPeSection } from "../pe/image.ts";
import { addPeSections, type NewPeSection, sectionNameSchema } from "../pe/sections.ts";
import { readKernelRelease } from "./kernel-release.ts";
import { mergeSbat } from "./sbat.ts";

const nonEmptyBytes = bytesSchema.refine(
  (bytes) => bytes.length > 0,
  "expected at least one byte; leave the option out",
);
const text = z
  .string()
  .min(1, "expected text; leave the option out")
  .refine((value) => !value.includes("\0"), "expected text without NUL");
const textOrBytes = z.union([text, nonEmptyBytes]);

// `.efifw` has no option of its own: stubs know it from 258 on.
const RESERVED: readonly string[] = [...STUB_SECTION_NAMES, ...TEXT_SECTION_NAMES, ...MEASURED_SECTION_NAMES].filter(
  (name) => name !== ".efifw",
);
const ownSectionName = sectionNameSchema.refine(
  (name) => !RESERVED.includes(name),
  "expected a name other than those with an option of their own",
);

const buildUkiSchema = z.strictObject({
  /** systemd's stub program: `linuxx64.efi.stub` */
  stub: bytesSchema,
  /** kernel, a PE image (on x86 the bzImage) */
  linux: bytesSchema,
  /** initrd, or several that are joined in order, each at a multiple of 4 bytes */
  initrd: z.union([nonEmptyBytes, z.array(nonEmptyBytes).min(1).readonly()]).optional(),
  /** kernel command line; runs of blanks and newlines become one blank, as the stub treats them */
  cmdline: text
    .transform((line) => line.trim().split(/\s+/).join(" "))
    .pipe(text)
    .optional(),
  /** content of `os-release` */
  osRelease: textOrBytes.optional(),
  /** kernel release as `uname -r` prints it; read from the kernel when absent */
  uname: text.optional(),
  /** `.sbat` texts to merge after those of stub and kernel; a generic entry for unified kernel images when absent */
  sbat: z.array(text).min(1).readonly().optional(),
  /** public key of PCR signatures, PEM */
  pcrpkey: textOrBytes.optional(),
  /** PCR signatures, JSON */
  pcrsig: textOrBytes.optional(),
  /** boot logo, BMP */
  splash: nonEmptyBytes.optional(),
  /** device tree, one for all machines */
  dtb: nonEmptyBytes.optional(),
  /** device trees of which the stub picks the one that fits the machine */
  dtbauto: z.array(nonEmptyBytes).readonly().default([]),
  /** hardware identifiers that `dtbauto` is picked by */
  hwids: nonEmptyBytes.optional(),
  /** processor microcode, an uncompressed cpio */
  ucode: nonEmptyBytes.optional(),
  /** description of the base profile: `ID=main\nTITLE=…` */
  profile: textOrBytes.optional(),
  /** further sections, after the known ones */
  sections: z
    .array(z.strictObject({ name: ownSectionName, data: nonEmptyBytes }))
    .readonly()
    .default([]),
  /** PE `TimeDateStamp`, `seconds` since 1970; the stub's when absent */
  timeDateStamp: z.int().min(0).max(0xffff_ffff).optional(),
});

/** Parts of a unified kernel image; none is modified or retained. */
export type BuildUkiOptions = z.input<typeof buildUkiSchema>;

/**
 * Builds a unified kernel image: systemd's stub with kernel, initrd and the rest as PE sections, in `ukify`'s order and
 * layout, so that equal inputs give an equal file.
 *
 * @param options - Parts of the image; only `stub` and `linux` are required.
 * @returns The unsigned image, a new array; every input byte is copied once.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that are unknown, empty or of the wrong type; any code of
 *   {@link addPeSections} and `UKI_SIGN_SBAT_INVALID`, with the option at fault as `field`.
 * @see UAPI Group "Unified Kernel Image (UKI)" 1.0; systemd 257 systemd-stub(7), ukify(1)
 * @example
 * const image = buildUki({ stub, linux, initrd, cmdline: "quiet root=dissect", osRelease });
 */
export function buildUki(options: BuildUkiOptions): Uint8Array {
  const parts = parseOptions(buildUkiSchema, options);
  const stub = decodeInput("stub", parts.stub);
  const linux = decodeInput("linux", parts.linux);
  if (linux.machine !== stub.machine) {
    throw new UkiSignError(
      "UKI_SIGN_PE_UNSUPPORTED",
      `expected a kernel for the stub's machine 0x${stub.machine.toString(16)}, got 0x${linux.machine.toString(16)}`,
      { field: "linux" },
    );
  }
  const sbat = mergeSbat([
    ...ownSbat(parts.stub, stub),
    ...ownSbat(parts.linux, linux),
    ...(parts.sbat ?? [`${SBAT_HEADER}\n${SBAT_UKI}\n`]),
  ]);
  const sections: NewPeSection[] = [
    ...section(".osrel", parts.osRelease),
    ...section(".cmdline", parts.cmdline),
    ...section(".dtb", parts.dtb),
    ...parts.dtbauto.map((data) => ({ name: ".dtbauto", data })),
    ...section(".hwids", parts.hwids),
    ...section(".uname", parts.uname ?? readKernelRelease(parts.linux)),
    ...section(".splash", parts.splash),
    ...section(".pcrpkey", parts.pcrpkey),
    // Old kernels run from where the firmware loaded them, so this section is code.
    { name: ".linux", data: parts.linux, characteristics: SCN_CNT_CODE + SCN_MEM_READ },
    ...(parts.initrd === undefined ? [] : [{ name: ".initrd", data: joinInitrds(parts.initrd) }]),
    ...section(".ucode", parts.ucode),
    ...parts.sections,
    ...section(".sbat", sbat),
    ...section(".profile", parts.profile),
    ...section(".pcrsig", parts.pcrsig),
  ];
  const compatible = (linux.dllCharacteristics & DLL_NX_COMPAT) !== 0;
  return addPeSections(parts.stub, sections, {
    timeDateStamp: parts.timeDateStamp,
    // The kernel runs under the protection that the outer image asks for, so it has to cope with it.
    clearDllCharacteristics: compatible ? 0 : DLL_NX_COMPAT,
    replace: [".sbat"],
  });
}

const buildAddonSchema = buildUkiSchema
  .pick({
    stub: true,
    initrd: true,
    cmdline: true,
    uname: true,
    sbat: true,
    dtb: true,
    dtbauto: true,
    hwids: true,
    ucode: true,
    sections: true,
    timeDateStamp: true,
  })
  .strict();

/** Parts of an addon; none is modified or retained. `stub` is systemd's addon stub: `addonx64.efi.stub`. */
export type BuildUkiAddonOptions = z.input<typeof buildAddonSchema>;

/**
 * Builds an addon: a PE image without a program of its own, whose command line, initrds, device trees or microcode
 * systemd-stub adds to those of the unified kernel image it starts.
 *
 * @param options - Parts of the addon; `uname` binds it to one kernel.
 * @returns The unsigned addon, a new array; equal inputs give the file that `ukify` makes.
 * @throws {UkiSignError} As {@link buildUki}; `UKI_SIGN_BAD_OPTIONS` for an addon that adds nothing.
 * @see systemd 257 systemd-stub(7), "Companion Files"; UAPI Group "Unified Kernel Image (UKI)" 1.0, "PE Addons"
 * @example
 * const addon = buildUkiAddon({ stub: addonStub, cmdline: "console=ttyS0" });
 */
export function buildUkiAddon(options: BuildUkiAddonOptions): Uint8Array {
  const parts = parseOptions(buildAddonSchema, options);
  const stub = decodeInput("stub", parts.stub);
  const sections: NewPeSection[] = [
    ...section(".cmdline", parts.cmdline),
    ...section(".dtb", parts.dtb),
    ...parts.dtbauto.map((data) => ({ name: ".dtbauto", data })),
    ...section(".hwids", parts.hwids),
    ...section(".uname", parts.uname),
    ...(parts.initrd === undefined ? [] : [{ name: ".initrd", data: joinInitrds(parts.initrd) }]),
    ...section(".ucode", parts.ucode),
    ...parts.sections,
  ];
  if (sections.every(({ name }) => name === ".uname")) {
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", "expected something to add, got none", { field: "cmdline" });
  }
  const sbat = mergeSbat([...ownSbat(parts.stub, stub), ...(parts.sbat ?? [`${SBAT_HEADER}\n${SBAT_ADDON}\n`])]);
  return addPeSections(parts.stub, [...sections, ...section(".sbat", sbat)], {
    timeDateStamp: parts.timeDateStamp,
    replace: [".sbat"],
  });
}

function section(name: string, content: string | Uint8Array | undefined): NewPeSection[] {
  if (content === undefined) return [];
  return [{ name, data: typeof content === "string" ? new TextEncoder().encode(content) : content }];
}

function ownSbat(image: Uint8Array, decoded: PeImage): string[] {
  return decoded.sections
    .filter(({ name }) => name === ".sbat")
    .map((found) => Buffer.from(readPeSection(image, found)).toString("latin1"));
}

function joinInitrds(initrd: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] {
  if (initrd instanceof Uint8Array) return [initrd];
  // A single initrd goes in as it is; of several each is padded, also the last.
  if (initrd.length === 1) return initrd;
  return initrd.flatMap((part) => [part, new Uint8Array(-part.length & (INITRD_ALIGNMENT - 1))]);
}

/** Decodes one input; the error names the option it came from. */
function decodeInput(field: string, image: Uint8Array): PeImage {
  try {
    return decodePe(image);
  } catch (error) {
    if (!(error instanceof UkiSignError)) throw error;
    throw new UkiSignError(error.code, `${field}: ${error.message}`, { offset: error.offset, field, cause: error });
  }
}
