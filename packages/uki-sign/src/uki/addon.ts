import * as z from "zod";
import { readBytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { SBAT_ADDON, SBAT_HEADER } from "../format/uki.ts";
import { parseOptions } from "../internal/options.ts";
import { joinPeSections, type NewPeSection } from "../pe/sections.ts";
import { contentSchema, partsSchema, textOrContentSchema, textSchema } from "./options.ts";
import type { BuildUkiAddonOptions, BuildUkiProfileOptions } from "./parts.ts";
import { mergeSbat } from "./sbat.ts";
import { decodeInput, initrdSection, sbatOf, section } from "./section-content.ts";

const buildAddonSchema = partsSchema.extend({
  sbat: z.array(textSchema).min(1).readonly().optional(),
});

/**
 * Builds an addon: a PE image without a program of its own, whose command line, initrds, device trees or microcode
 * systemd-stub adds to those of the unified kernel image it starts.
 *
 * @param options - Parts of the addon; `uname` binds it to one kernel.
 * @returns The unsigned addon, a new array; equal inputs give the file that `ukify` makes.
 * @throws {UkiSignError} As `buildUki`; `UKI_SIGN_BAD_OPTIONS` for an addon that adds nothing.
 * @see systemd 257 systemd-stub(7), "Companion Files"; UAPI Group "Unified Kernel Image (UKI)" 1.0, "PE Addons"
 * @example
 * const addon = buildUkiAddon({ stub: addonStub, cmdline: "console=ttyS0" });
 */
export function buildUkiAddon(options: BuildUkiAddonOptions): Uint8Array {
  const parts = parseOptions(buildAddonSchema, options);
  const stub = decodeInput("stub", parts.stub);
  const sections = commonSections(parts);
  if (sections.every(({ name }) => name === ".uname")) {
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", "expected something to add, got none", { field: "cmdline" });
  }
  const sbat = mergeSbat([...sbatOf(parts.stub, stub), ...(parts.sbat ?? [`${SBAT_HEADER}\n${SBAT_ADDON}\n`])]);
  return readBytes(
    joinPeSections(parts.stub, [...sections, ...section(".sbat", sbat)], {
      timeDateStamp: parts.timeDateStamp,
      replace: [".sbat"],
    }),
  );
}

const buildProfileSchema = partsSchema
  .pick({ stub: true, initrd: true, cmdline: true, uname: true, dtb: true, ucode: true, timeDateStamp: true })
  .extend({
    profile: textOrContentSchema,
    osRelease: textOrContentSchema.optional(),
    splash: contentSchema.optional(),
  })
  .strict();

/**
 * Builds a profile's image, which `joinProfiles` of `buildUki` takes: what it holds replaces the parts of the base
 * profile when the profile is booted.
 *
 * @param options - Description and parts of the profile.
 * @returns The image, a new array; equal inputs give the file that `ukify` makes.
 * @throws {UkiSignError} As `buildUki`.
 * @see UAPI Group "Unified Kernel Image (UKI)" 1.0, "Multi-Profile UKIs"; systemd 257 ukify(1), `--join-profile=`
 * @example
 * const debug = buildUkiProfile({ stub, profile: "ID=debug\nTITLE=Debug", cmdline: "debug" });
 * const image = buildUki({ stub, linux, profile: "ID=main", joinProfiles: [debug] });
 */
export function buildUkiProfile(options: BuildUkiProfileOptions): Uint8Array {
  const parts = parseOptions(buildProfileSchema, options);
  decodeInput("stub", parts.stub);
  const { osRelease, cmdline, dtb, uname, splash, initrd, ucode, profile, timeDateStamp } = parts;
  const sections = [
    ...section(".profile", profile),
    ...section(".osrel", osRelease),
    ...section(".cmdline", cmdline),
    ...section(".dtb", dtb),
    ...section(".uname", uname),
    ...section(".splash", splash),
    ...initrdSection(initrd),
    ...section(".ucode", ucode),
  ];
  return readBytes(joinPeSections(parts.stub, sections, { timeDateStamp }));
}

function commonSections(parts: z.output<typeof partsSchema>): NewPeSection[] {
  return [
    ...section(".cmdline", parts.cmdline),
    ...section(".dtb", parts.dtb),
    ...parts.dtbauto.map((data) => ({ name: ".dtbauto", data })),
    ...section(".hwids", parts.hwids),
    ...section(".uname", parts.uname),
    ...initrdSection(parts.initrd),
    ...parts.efifw.map((data) => ({ name: ".efifw", data })),
    ...section(".ucode", parts.ucode),
    ...parts.sections,
  ];
}
