import * as z from "zod";
import { type ByteSource, bytesOrSourceSchema, readBytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { DLL_NX_COMPAT, SCN_CNT_CODE, SCN_MEM_READ } from "../format/pe.ts";
import { SBAT_HEADER, SBAT_UKI } from "../format/uki.ts";
import { parseOptions } from "../internal/options.ts";
import { joinPeSections, type NewPeSection } from "../pe/sections.ts";
import { readKernelRelease, unpackKernel } from "./kernel.ts";
import { contentSchema, partsSchema, textOrContentSchema, textSchema } from "./options.ts";
import type { BuildUkiOptions } from "./parts.ts";
import { sectionsOfProfile } from "./profiles.ts";
import { mergeSbat } from "./sbat.ts";
import { decodeInput, initrdSection, sbatOf, section } from "./section-content.ts";

const buildUkiSchema = partsSchema.extend({
  linux: bytesOrSourceSchema,
  osRelease: textOrContentSchema.optional(),
  sbat: z.array(textSchema).min(1).readonly().optional(),
  pcrpkey: textOrContentSchema.optional(),
  pcrsig: z.union([textOrContentSchema, z.array(textOrContentSchema.optional()).readonly()]).optional(),
  splash: contentSchema.optional(),
  profile: textOrContentSchema.optional(),
  joinProfiles: z.array(bytesOrSourceSchema).readonly().default([]),
});

/**
 * Builds a unified kernel image: systemd's stub with kernel, initrd and the rest as PE sections, in `ukify`'s order and
 * layout, so that equal inputs give an equal file.
 *
 * @param options - Parts of the image; only `stub` and `linux` are required.
 * @returns The unsigned image, a new array; every input byte is copied once.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that are unknown, empty or of the wrong type; any code of
 *   `addPeSections`, `UKI_SIGN_SBAT_INVALID`, `UKI_SIGN_PROFILE_INVALID` and `UKI_SIGN_KERNEL_COMPRESSED`, with the
 *   option at fault as `field`.
 * @see UAPI Group "Unified Kernel Image (UKI)" 1.0; systemd 257 systemd-stub(7), ukify(1)
 * @example
 * const image = buildUki({ stub, linux, initrd, cmdline: "quiet root=dissect", osRelease });
 */
export function buildUki(options: BuildUkiOptions): Uint8Array {
  return readBytes(assembleUki(options));
}

/**
 * Builds a unified kernel image like {@link buildUki}, without putting it together in memory: that happens piece by piece
 * when the result is read, as `signPe`, `writePe` and everything else that takes a source does.
 *
 * @param options - As for {@link buildUki}; what is large comes from `fileSource`.
 * @returns The unsigned image. The sources in `options` must stay open and unchanged while it is in use.
 * @throws {UkiSignError} As {@link buildUki}.
 * @example
 * await using linux = await fileSource("vmlinuz");
 * await using initrd = await fileSource("initrd.img");
 * await writePe("linux.efi", assembleUki({ stub, linux, initrd, cmdline: "quiet" }), { sign: { signer, certificate } });
 */
export function assembleUki(options: BuildUkiOptions): ByteSource {
  const parts = parseOptions(buildUkiSchema, options);
  const { profile, joinProfiles } = parts;
  const pcrsigs = Array.isArray(parts.pcrsig) ? parts.pcrsig : [parts.pcrsig];
  if (joinProfiles.length > 0 && profile === undefined)
    throw badProfile("profile", "profile with joinProfiles, got none");
  if (pcrsigs.length > 1 + joinProfiles.length) {
    throw badProfile("pcrsig", `at most ${1 + joinProfiles.length} pcrsig, one a profile, got ${pcrsigs.length}`);
  }
  const kernel = unpackKernel(parts.linux);
  const stub = decodeInput("stub", parts.stub);
  const linux = decodeInput("linux", kernel);
  if (linux.machine !== stub.machine) {
    throw new UkiSignError(
      "UKI_SIGN_PE_UNSUPPORTED",
      `expected a kernel for the stub's machine 0x${stub.machine.toString(16)}, got 0x${linux.machine.toString(16)}`,
      { field: "linux" },
    );
  }
  const sbat = mergeSbat([
    ...sbatOf(parts.stub, stub),
    ...sbatOf(kernel, linux),
    ...(parts.sbat ?? [`${SBAT_HEADER}\n${SBAT_UKI}\n`]),
  ]);
  const base: NewPeSection[] = [
    ...section(".osrel", parts.osRelease),
    ...section(".cmdline", parts.cmdline),
    ...section(".dtb", parts.dtb),
    ...parts.dtbauto.map((data) => ({ name: ".dtbauto", data })),
    ...section(".hwids", parts.hwids),
    ...section(".uname", parts.uname ?? readKernelRelease(kernel)),
    ...section(".splash", parts.splash),
    ...section(".pcrpkey", parts.pcrpkey),
    // Old kernels run from where the firmware loaded them, so this section is code.
    { name: ".linux", data: kernel, characteristics: SCN_CNT_CODE + SCN_MEM_READ },
    ...initrdSection(parts.initrd),
    ...parts.efifw.map((data) => ({ name: ".efifw", data })),
    ...section(".ucode", parts.ucode),
    ...parts.sections,
    ...section(".sbat", sbat),
    ...section(".profile", profile),
    ...section(".pcrsig", pcrsigs[0]),
  ];
  const joined = joinProfiles.flatMap((image, index) => [
    ...sectionsOfProfile(image, `joinProfiles[${index}]`, { osRelease: parts.osRelease !== undefined }),
    ...section(".pcrsig", pcrsigs[1 + index]),
  ]);
  const compatible = (linux.dllCharacteristics & DLL_NX_COMPAT) !== 0;
  return joinPeSections(parts.stub, [...base, ...joined], {
    timeDateStamp: parts.timeDateStamp,
    // The kernel runs under the protection that the outer image asks for, so it has to cope with it.
    clearDllCharacteristics: compatible ? 0 : DLL_NX_COMPAT,
    replace: [".sbat"],
  });
}

function badProfile(field: string, expectation: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected ${expectation}`, { field });
}
