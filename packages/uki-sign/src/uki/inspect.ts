import { createHash } from "node:crypto";
import * as z from "zod";
import { signaturesOf } from "../authenticode/certificate-table.ts";
import { type Bytes, eachChunk, readBytes, sizeOf } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { ADDON_SECTION_NAMES, MEASURED_SECTION_NAMES, STUB_SECTION_NAMES, TEXT_SECTION_NAMES } from "../format/uki.ts";
import { parseOptions } from "../internal/options.ts";
import { decodePe, type PeImage, type PeSection, peSectionSource } from "../pe/image.ts";
import { type ProfileDescription, parseProfile, splitProfiles } from "./profiles.ts";
import { DEFAULT_MAX_TEXT_BYTES } from "./section-content.ts";
import { knownToStub } from "./stub.ts";

/** One section of a unified kernel image. */
export interface UkiSection {
  /** name with its dot: `.cmdline` */
  readonly name: string;
  /** `stub` for the program itself, `text` for UTF-8 content, `binary` for the rest */
  readonly kind: "stub" | "text" | "binary";
  /** exact size of the content, in `bytes` */
  readonly sizeBytes: number;
  /** position in the file, in `bytes` */
  readonly offset: number;
  /** address in memory relative to the image base, in `bytes` */
  readonly virtualAddress: number;
  /** SHA-256 of the content, hexadecimal */
  readonly sha256: string;
  /** content without trailing NULs; absent when it is not text */
  readonly text?: string;
  /** which profile it belongs to, counted from 0; absent for what all profiles share */
  readonly profile?: number;
}

/** One way to boot a unified kernel image. */
export interface UkiProfile extends ProfileDescription {
  /** position, counted from 0, by which systemd-stub is told to boot it */
  readonly index: number;
}

/** What {@link inspectUki} found. */
export interface UkiInspection {
  /** `image` with a kernel, or what goes with one: an `addon`, or a `profile` to join */
  readonly kind: "image" | "addon" | "profile";
  /** size of the file, in `bytes` */
  readonly sizeBytes: number;
  /** `IMAGE_FILE_MACHINE_*`; 0x8664 is x86-64 */
  readonly machine: number;
  /** PE `TimeDateStamp`, `seconds` since 1970 */
  readonly timeDateStamp: number;
  /** number of attached signatures, none of them verified */
  readonly signatures: number;
  /** profiles in order; empty for an image without `.profile` sections, which has one way to boot */
  readonly profiles: readonly UkiProfile[];
  /** sections in file order */
  readonly sections: readonly UkiSection[];
}

/**
 * Describes a unified kernel image, an addon or a profile's image section by section.
 *
 * @param image - The whole file; not modified.
 * @returns Sizes and digests of all sections, and the text of those that hold text.
 * @throws {UkiSignError} Any code of {@link decodePe} and of `listSignatures`; `UKI_SIGN_SECTION_MISSING` when there is
 *   no section by which to know one, so that the image is some other EFI program.
 * @example
 * const { sections } = inspectUki(await readFile("linux.efi"));
 * console.log(sections.find(({ name }) => name === ".cmdline")?.text);
 */
export function inspectUki(image: Bytes): UkiInspection {
  const decoded = decodePe(image);
  const { base, profiles } = splitProfiles(decoded);
  const sections = [base, ...profiles].flatMap((own, index) =>
    own.map((section) => describeSection(image, section, index - 1)),
  );
  return {
    kind: kindOf(decoded),
    sizeBytes: decoded.fileSize,
    machine: decoded.machine,
    timeDateStamp: decoded.timeDateStamp,
    signatures: signaturesOf(image, decoded).length,
    profiles: sections.flatMap(({ name, text = "", profile }) =>
      name === ".profile" && profile !== undefined ? [{ index: profile, ...parseProfile(text) }] : [],
    ),
    sections,
  };
}

function kindOf({ sections }: PeImage): UkiInspection["kind"] {
  const has = (name: string): boolean => sections.some((section) => section.name === name);
  if (has(".linux")) return "image";
  if (has(".profile")) return "profile";
  if (ADDON_SECTION_NAMES.some(has)) return "addon";
  throw new UkiSignError(
    "UKI_SIGN_SECTION_MISSING",
    `expected a section .linux, .profile or one of an addon, got ${sections.map(({ name }) => name).join(" ") || "none"}`,
  );
}

/** Size, digest and text of one section; `profile` is negative for what belongs to none. */
export function describeSection(image: Bytes, section: PeSection, profile = -1): UkiSection {
  const content = peSectionSource(image, section);
  const sizeBytes = sizeOf(content);
  const isText = TEXT_SECTION_NAMES.includes(section.name) && sizeBytes <= DEFAULT_MAX_TEXT_BYTES;
  const text = isText ? decodeText(readBytes(content)) : undefined;
  const hash = createHash("sha256");
  eachChunk(content, 0, sizeBytes, (chunk) => hash.update(chunk));
  return {
    name: section.name,
    kind: STUB_SECTION_NAMES.includes(section.name) ? "stub" : text === undefined ? "binary" : "text",
    sizeBytes,
    offset: section.rawOffset,
    virtualAddress: section.virtualAddress,
    sha256: hash.digest("hex"),
    ...(text === undefined ? {} : { text }),
    ...(profile < 0 ? {} : { profile }),
  };
}

function decodeText(data: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data).replace(/\0+$/, "");
  } catch {
    return undefined;
  }
}

/** A section whose content the stub measures. */
export interface MeasuredSection<B extends Bytes = Bytes> {
  /** name with its dot: `.cmdline` */
  readonly name: string;
  /** exact content */
  readonly data: B;
}

const pickSchema = z.strictObject({
  profile: z.int().min(0).default(0),
  dtbauto: z.int().min(0).optional(),
  efifw: z.int().min(0).optional(),
});

/** Options of {@link measuredSections}. */
export interface MeasuredSectionsOptions {
  /** which profile boots, counted from 0; the first when absent */
  readonly profile?: number | undefined;
  /** which `.dtbauto` section the machine picks, counted from 0; none when absent */
  readonly dtbauto?: number | undefined;
  /** which `.efifw` section the machine picks, counted from 0; none when absent */
  readonly efifw?: number | undefined;
}

/**
 * The sections of a unified kernel image that the stub measures when it boots a profile: of those that there are, the ones
 * whose names are in the stub, because an old one measures fewer than a new one.
 *
 * @param image - The whole file; not modified.
 * @param options - Which profile boots, and what the machine picks among sections that depend on it.
 * @returns Input for `predictPcr11`; `data` aliases `image`, or reads from it.
 * @throws {UkiSignError} Any code of {@link decodePe}; `UKI_SIGN_PE_INVALID` when a measured section is longer in memory
 *   than in the file; `UKI_SIGN_SECTION_MISSING` when the profile or a picked section does not exist;
 *   `UKI_SIGN_BAD_OPTIONS` when a pick is no index.
 * @see UAPI Group "Unified Kernel Image (UKI)" 1.0, "Multi-Profile UKIs"
 */
export function measuredSections(image: Uint8Array, options?: MeasuredSectionsOptions): MeasuredSection<Uint8Array>[];
export function measuredSections(image: Bytes, options?: MeasuredSectionsOptions): MeasuredSection[];
export function measuredSections(image: Bytes, options: MeasuredSectionsOptions = {}): MeasuredSection[] {
  const { profile: index, dtbauto, efifw } = parseOptions(pickSchema, options);
  const picked: Readonly<Record<string, number | undefined>> = { ".dtbauto": dtbauto, ".efifw": efifw };
  const decoded = decodePe(image);
  const { base, profiles } = splitProfiles(decoded);
  const profile = profiles[index] ?? [];
  if (index > 0 && profile.length === 0) {
    const message = `expected a profile with index ${index}, got an image with ${profiles.length} profiles`;
    throw new UkiSignError("UKI_SIGN_SECTION_MISSING", message, { field: "profile" });
  }
  return MEASURED_SECTION_NAMES.filter(knownToStub(image, decoded)).flatMap((name) => {
    // A profile's own section hides that of the base; of equal names the first counts.
    const own = profile.filter((section) => section.name === name);
    const candidates = own.length > 0 ? own : base.filter((section) => section.name === name);
    const wanted = name in picked ? picked[name] : 0;
    const section = wanted === undefined ? undefined : candidates[wanted];
    if (section !== undefined) return [{ name, data: wholeSection(image, section) }];
    if (picked[name] === undefined) return [];
    throw new UkiSignError(
      "UKI_SIGN_SECTION_MISSING",
      `expected a section ${name} with index ${wanted}, got ${candidates.length} of them`,
    );
  });
}

function wholeSection(image: Bytes, section: PeSection): Bytes {
  if (section.virtualSize <= section.rawSize) return peSectionSource(image, section);
  throw new UkiSignError(
    "UKI_SIGN_PE_INVALID",
    `expected section ${section.name} to hold its ${section.virtualSize} bytes in the file, got ${section.rawSize}`,
    { offset: section.headerOffset },
  );
}
