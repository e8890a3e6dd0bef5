import * as z from "zod";
import { type Bytes, bytesOrSourceSchema, partOf, readBytes, sizeOf } from "../bytes/byte-source.ts";
import { JoinedBytes, type PlacedBytes } from "../bytes/joined.ts";
import { UkiSignError } from "../errors.ts";
import * as pe from "../format/pe.ts";
import { viewOf } from "../internal/bytes.ts";
import { parseOptions } from "../internal/options.ts";
import { ByteView } from "./byte-view.ts";
import { decodePe, type PeImage, type PeSection } from "./image.ts";
import { alignUp, byRawOffset, contiguousEnd } from "./layout.ts";
import { endsWithSymbols } from "./symbols.ts";

/** A section to put into a PE image. */
export interface NewPeSection {
  /** name, 1 to 8 printable ASCII characters */
  readonly name: string;
  /** content, as one array or as parts that follow each other; not retained, not modified */
  readonly data: Bytes | readonly Bytes[];
  /** `IMAGE_SCN_*` flags; readable initialised data when absent */
  readonly characteristics?: number | undefined;
}

/** What {@link addPeSections} changes besides adding sections. */
export interface AddPeSectionsOptions {
  /** new `TimeDateStamp`, `seconds` since 1970; kept when absent */
  readonly timeDateStamp?: number | undefined;
  /** `IMAGE_DLLCHARACTERISTICS_*` bits to clear; none when absent */
  readonly clearDllCharacteristics?: number | undefined;
  /** names of which an existing section gets the new content, instead of a second section being added */
  readonly replace?: readonly string[] | undefined;
}

/** Schema of a section's name: what fits into its header and prints. */
export const sectionNameSchema: z.ZodString = z
  .string()
  .regex(/^[\x21-\x7e]{1,8}$/, "1 to 8 printable ASCII characters");

const U32 = z.int().min(0).max(0xffff_ffff);
const sectionsSchema = z.array(
  z.strictObject({
    name: sectionNameSchema,
    data: z.union([bytesOrSourceSchema, z.array(bytesOrSourceSchema).readonly()]),
    characteristics: U32.default(pe.SCN_CNT_INITIALIZED_DATA + pe.SCN_MEM_READ),
  }),
);
const optionsSchema = z.strictObject({
  timeDateStamp: U32.optional(),
  clearDllCharacteristics: z.int().min(0).max(0xffff).default(0),
  replace: z.array(z.string()).readonly().default([]),
});

type Section = z.output<typeof sectionsSchema>[number];

/** Sections of systemd's stub that its code never refers to. */
const FOUND_BY_NAME: readonly string[] = [".sbat"];

/** A section of the result: its header's fields and the bytes it gets. */
interface Placed {
  /** header to start from; the four positions and sizes below overwrite its own */
  readonly header: Uint8Array;
  readonly parts: readonly Bytes[];
  readonly virtualSize: number;
  readonly virtualAddress: number;
  readonly rawSize: number;
  readonly rawOffset: number;
}

/**
 * Adds sections to a PE image, laid out so that UEFI loads them: each at the next multiple of the section alignment in
 * memory and of the file alignment in the file. Everything else in the headers and in the existing sections stays as it
 * is; the checksum, which nothing in UEFI reads, becomes 0, and COFF symbols behind the sections are dropped. When the
 * headers have no room for the new section headers, the data of the sections moves back in the file to make some.
 *
 * @param image - The image to extend, unsigned; not modified.
 * @param sections - Sections in the order to add them.
 * @param options - See {@link AddPeSectionsOptions}.
 * @returns A new file; every byte is copied once.
 * @throws {UkiSignError} Any code of {@link decodePe}; `UKI_SIGN_BAD_OPTIONS` when a name or number does not fit,
 *   `UKI_SIGN_PE_UNSUPPORTED` when the image is signed or carries data outside of its sections,
 *   `UKI_SIGN_PE_NO_ROOM` when headers or a replaced section cannot grow as needed,
 *   `UKI_SIGN_TOO_LARGE` when the result would not fit into 4 GiB.
 * @see PE Format, "Section Table (Section Headers)"
 * @example
 * const extended = addPeSections(stub, [{ name: ".cmdline", data: new TextEncoder().encode("quiet") }]);
 */
export function addPeSections(
  image: Uint8Array,
  sections: readonly NewPeSection[],
  options: AddPeSectionsOptions = {},
): Uint8Array {
  return readBytes(joinPeSections(image, sections, options));
}

/** {@link addPeSections} without putting the file together: that happens when it is read. */
export function joinPeSections(
  image: Bytes,
  sections: readonly NewPeSection[],
  options: AddPeSectionsOptions = {},
): JoinedBytes {
  const added = parseOptions(sectionsSchema, sections);
  const { timeDateStamp, clearDllCharacteristics, replace } = parseOptions(optionsSchema, options);
  const decoded = decodePe(image);
  const { hasSymbols } = assertExtensible(image, decoded);

  const replacements = new Map<PeSection, Section | undefined>();
  const appended: Section[] = [];
  for (const section of added) {
    const existing = replace.includes(section.name)
      ? decoded.sections.find(({ name }) => name === section.name)
      : undefined;
    const fits = existing !== undefined && hasRoom(decoded, existing, totalSize(partsOf(section.data)));
    if (!fits) appended.push(section);
    if (existing !== undefined) replacements.set(existing, fits ? section : undefined);
  }

  const left = [...replacements.values()].filter((replacement) => replacement === undefined).length;
  const sizeOfHeaders = headersSize(image, decoded, appended.length - left);
  const kept = placeExisting(image, decoded, replacements, { sizeOfHeaders, hasSymbols });
  const placed = [...kept, ...placeAppended(decoded, appended, kept, sizeOfHeaders)];

  const header = new Uint8Array(sizeOfHeaders);
  header.set(readBytes(image, 0, decoded.sizeOfHeaders));
  const view = viewOf(header);
  const coff = decoded.peOffset + pe.PE_MAGIC_SIZE;
  if (hasSymbols) {
    view.setUint32(coff + pe.COFF_POINTER_TO_SYMBOL_TABLE, 0, true);
    view.setUint32(coff + pe.COFF_NUMBER_OF_SYMBOLS, 0, true);
  }
  const optional = decoded.optionalHeaderOffset;
  const addedSize = appended.reduce((sum, { data }) => sum + totalSize(partsOf(data)), 0);
  const initialized = view.getUint32(optional + pe.OPTIONAL_SIZE_OF_INITIALIZED_DATA, true);
  view.setUint16(coff + pe.COFF_NUMBER_OF_SECTIONS, placed.length, true);
  view.setUint32(coff + pe.COFF_TIME_DATE_STAMP, timeDateStamp ?? decoded.timeDateStamp, true);
  view.setUint32(optional + pe.OPTIONAL_SIZE_OF_INITIALIZED_DATA, initialized + addedSize, true);
  view.setUint32(optional + pe.OPTIONAL_SIZE_OF_IMAGE, virtualEndOf(placed, decoded), true);
  view.setUint32(optional + pe.OPTIONAL_SIZE_OF_HEADERS, sizeOfHeaders, true);
  view.setUint32(optional + pe.OPTIONAL_CHECKSUM, 0, true);
  const characteristics = decoded.dllCharacteristics & ~clearDllCharacteristics;
  view.setUint16(optional + pe.OPTIONAL_DLL_CHARACTERISTICS, characteristics, true);
  const parts: PlacedBytes[] = [];
  for (const [index, section] of placed.entries()) {
    const at = decoded.sectionTableOffset + index * pe.SECTION_HEADER_SIZE;
    header.set(section.header, at);
    view.setUint32(at + pe.SECTION_VIRTUAL_SIZE, section.virtualSize, true);
    view.setUint32(at + pe.SECTION_VIRTUAL_ADDRESS, section.virtualAddress, true);
    view.setUint32(at + pe.SECTION_SIZE_OF_RAW_DATA, section.rawSize, true);
    view.setUint32(at + pe.SECTION_POINTER_TO_RAW_DATA, section.rawOffset, true);
    let offset = section.rawOffset;
    for (const bytes of section.parts) {
      parts.push({ offset, bytes });
      offset += sizeOf(bytes);
    }
  }
  parts.sort((a, b) => a.offset - b.offset);
  return new JoinedBytes([{ offset: 0, bytes: header }, ...parts], rawEndOf(placed, sizeOfHeaders));
}

/** Refuses what nothing can be added to; tells whether there are symbols behind the sections, which have to go for that. */
function assertExtensible(image: Bytes, decoded: PeImage): { hasSymbols: boolean } {
  if (decoded.certificates !== undefined) {
    throw new UkiSignError(
      "UKI_SIGN_PE_UNSUPPORTED",
      "expected an unsigned image to add sections to, got a signed one",
      {
        hint: "its signatures would break: remove them first",
      },
    );
  }
  const end = contiguousEnd(decoded);
  const hasSymbols = endsWithSymbols(image, decoded, end);
  if (end === decoded.fileSize || hasSymbols) return { hasSymbols };
  throw new UkiSignError(
    "UKI_SIGN_PE_UNSUPPORTED",
    `expected an image that ends with its last section (byte ${end}), got ${decoded.fileSize - end} more bytes`,
    { offset: end },
  );
}

/** Size of the headers once `count` section headers are added: as before when they fit, else grown. */
function headersSize(image: Bytes, decoded: PeImage, count: number): number {
  const tableEnd = decoded.sectionTableOffset + decoded.sections.length * pe.SECTION_HEADER_SIZE;
  const needed = tableEnd + count * pe.SECTION_HEADER_SIZE;
  const free = Math.min(needed, decoded.sizeOfHeaders) - tableEnd;
  const used = readBytes(image, tableEnd, free).findIndex((octet) => octet !== 0);
  const size = Math.max(decoded.sizeOfHeaders, alignUp(needed, decoded.fileAlignment));
  const limit = Math.min(...decoded.sections.map(({ virtualAddress }) => virtualAddress));
  if (used === -1 && size <= limit) return size;
  const room = used === -1 ? limit - tableEnd : used;
  throw new UkiSignError(
    "UKI_SIGN_PE_NO_ROOM",
    `expected room for ${count} section headers, got room for ${Math.max(0, Math.floor(room / pe.SECTION_HEADER_SIZE))}`,
    { offset: tableEnd },
  );
}

/** The image's own sections in the order of its table, with new content where it is replaced; without those replaced by nothing. */
function placeExisting(
  image: Bytes,
  decoded: PeImage,
  replacements: ReadonlyMap<PeSection, Section | undefined>,
  { sizeOfHeaders, hasSymbols }: { readonly sizeOfHeaders: number; readonly hasSymbols: boolean },
): Placed[] {
  const placed = new Map<PeSection, Placed>();
  const withData = byRawOffset(decoded.sections);
  const withoutData = decoded.sections.filter(({ rawSize }) => rawSize === 0);
  let end = sizeOfHeaders;
  let moved = false;
  for (const section of [...withData, ...withoutData]) {
    const { virtualAddress, headerOffset } = section;
    const header = readBytes(image, headerOffset, pe.SECTION_HEADER_SIZE);
    const replacement = replacements.get(section);
    if (replacement === undefined && replacements.has(section)) continue;
    if (replacement === undefined) {
      const parts = section.rawSize === 0 ? [] : [partOf(image, section.rawOffset, section.rawSize)];
      const rawOffset = section.rawSize === 0 ? section.rawOffset : end;
      placed.set(section, { ...section, header, parts, rawOffset });
      moved ||= rawOffset !== section.rawOffset;
      end += section.rawSize;
    } else {
      const parts = partsOf(replacement.data);
      const virtualSize = totalSize(parts);
      const rawSize = Math.max(section.rawSize, alignUp(virtualSize, decoded.fileAlignment));
      placed.set(section, { header, parts, virtualSize, virtualAddress, rawSize, rawOffset: end });
      end += rawSize;
    }
  }
  if (moved) assertMovable(image, decoded, hasSymbols);
  return decoded.sections.flatMap((section) => placed.get(section) ?? []);
}

function placeAppended(
  decoded: PeImage,
  appended: readonly Section[],
  kept: readonly Placed[],
  sizeOfHeaders: number,
): Placed[] {
  let rawOffset = rawEndOf(kept, sizeOfHeaders);
  let virtualAddress = virtualEndOf(kept, decoded);
  return appended.map((section) => {
    const parts = partsOf(section.data);
    const virtualSize = totalSize(parts);
    const rawSize = alignUp(virtualSize, decoded.fileAlignment);
    const header = new Uint8Array(pe.SECTION_HEADER_SIZE);
    new TextEncoder().encodeInto(section.name, header);
    new DataView(header.buffer).setUint32(pe.SECTION_CHARACTERISTICS, section.characteristics, true);
    const placed = { header, parts, virtualSize, virtualAddress, rawSize, rawOffset };
    rawOffset += rawSize;
    virtualAddress = alignUp(virtualAddress + virtualSize, decoded.sectionAlignment);
    if (Math.max(rawOffset, virtualAddress) > 0xffff_ffff) {
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected an image below 4 GiB, got more with ${section.name}`);
    }
    return placed;
  });
}

/**
 * Whether a section can be replaced where it is in memory: it may grow up to the next one. One that cannot goes behind all
 * others if nothing but its name leads to it, and is refused otherwise.
 */
function hasRoom(decoded: PeImage, section: PeSection, size: number): boolean {
  const later = decoded.sections
    .map(({ virtualAddress }) => virtualAddress)
    .filter((address) => address > section.virtualAddress);
  const room = Math.min(...later) - section.virtualAddress;
  if (size <= room) return true;
  if (FOUND_BY_NAME.includes(section.name)) return false;
  throw new UkiSignError(
    "UKI_SIGN_PE_NO_ROOM",
    `expected at most ${room} bytes for the existing section ${section.name}, got ${size}`,
    { offset: section.headerOffset },
  );
}

/** Moving data in the file is safe only when nothing but section headers holds file offsets. */
function assertMovable(image: Bytes, decoded: PeImage, hasSymbols: boolean): void {
  const view = new ByteView(image);
  const u32 = (offset: number): number => view.u32(offset, "a header");
  const symbols = hasSymbols ? 0 : u32(decoded.peOffset + pe.PE_MAGIC_SIZE + pe.COFF_POINTER_TO_SYMBOL_TABLE);
  const debug = decoded.directories[pe.DIRECTORY_DEBUG]?.size ?? 0;
  const perSection = decoded.sections.find(
    ({ headerOffset }) =>
      u32(headerOffset + pe.SECTION_POINTER_TO_RELOCATIONS) !== 0 ||
      u32(headerOffset + pe.SECTION_POINTER_TO_LINENUMBERS) !== 0,
  );
  if (symbols === 0 && debug === 0 && perSection === undefined) return;
  throw new UkiSignError(
    "UKI_SIGN_PE_NO_ROOM",
    "expected room for the new sections without moving existing ones, got debugging data that holds file offsets",
    { hint: "strip the image first" },
  );
}

function partsOf(data: Bytes | readonly Bytes[]): readonly Bytes[] {
  return data instanceof Uint8Array || !Array.isArray(data) ? [data as Bytes] : data;
}

function totalSize(parts: readonly Bytes[]): number {
  return parts.reduce((sum, part) => sum + sizeOf(part), 0);
}

function rawEndOf(placed: readonly Placed[], sizeOfHeaders: number): number {
  return Math.max(sizeOfHeaders, ...placed.map(({ rawOffset, rawSize }) => (rawSize === 0 ? 0 : rawOffset + rawSize)));
}

function virtualEndOf(placed: readonly Placed[], decoded: PeImage): number {
  const ends = placed.map(({ virtualAddress, virtualSize }) => virtualAddress + virtualSize);
  const end = alignUp(Math.max(decoded.sizeOfHeaders, ...ends), decoded.sectionAlignment);
  if (end <= 0xffff_ffff) return end;
  throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected an image below 4 GiB in memory, got ${end} bytes`);
}
