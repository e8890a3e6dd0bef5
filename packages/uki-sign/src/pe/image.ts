import { type Bytes, partOf, readBytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import * as pe from "../format/pe.ts";
import { ByteView } from "./byte-view.ts";

/** Most sections {@link decodePe} accepts; the loaders in use accept no more. */
export const DEFAULT_MAX_PE_SECTIONS = 96;

/** One section header of a PE image. */
export interface PeSection {
  /** name without its NUL padding, at most 8 bytes, Latin-1 */
  readonly name: string;
  /** size in memory, in `bytes`; for sections of a UKI the exact size of the content */
  readonly virtualSize: number;
  /** address in memory relative to the image base, in `bytes` */
  readonly virtualAddress: number;
  /** size in the file, in `bytes`, a multiple of the file alignment in well-made images */
  readonly rawSize: number;
  /** position in the file, in `bytes`; meaningless when `rawSize` is 0 */
  readonly rawOffset: number;
  /** `IMAGE_SCN_*` flags */
  readonly characteristics: number;
  /** position of this header in the file, in `bytes` */
  readonly headerOffset: number;
}

/** One data directory entry. */
export interface PeDirectory {
  /** address relative to the image base, in `bytes`; for the certificate table a file offset */
  readonly address: number;
  /** size in `bytes` */
  readonly size: number;
}

/** Decoded headers of a PE32+ image; positions are file offsets in `bytes`. */
export interface PeImage {
  /** size of the file, in `bytes` */
  readonly fileSize: number;
  /** position of the `PE\0\0` signature */
  readonly peOffset: number;
  /** position of the optional header */
  readonly optionalHeaderOffset: number;
  /** position of the first section header */
  readonly sectionTableOffset: number;
  /** position of the checksum field, which no Authenticode digest covers */
  readonly checksumOffset: number;
  /** position of the certificate table's directory entry, which no Authenticode digest covers; absent in images with fewer than five directories */
  readonly certificateDirectoryOffset: number | undefined;
  /** `IMAGE_FILE_MACHINE_*`; 0x8664 is x86-64 */
  readonly machine: number;
  /** `TimeDateStamp`, `seconds` since 1970 or a hash */
  readonly timeDateStamp: number;
  /** address of the entry point relative to the image base */
  readonly entryPoint: number;
  /** preferred load address */
  readonly imageBase: bigint;
  /** alignment of sections in memory, in `bytes`, a power of two */
  readonly sectionAlignment: number;
  /** alignment of sections in the file, in `bytes`, a power of two */
  readonly fileAlignment: number;
  /** size of the loaded image, in `bytes` */
  readonly sizeOfImage: number;
  /** size of everything before the first section's data, in `bytes` */
  readonly sizeOfHeaders: number;
  /** `CheckSum`; 0 when not computed, as in most EFI images */
  readonly checksum: number;
  /** `IMAGE_SUBSYSTEM_*`; 10 is an EFI application */
  readonly subsystem: number;
  /** `IMAGE_DLLCHARACTERISTICS_*` flags */
  readonly dllCharacteristics: number;
  /** data directories, at most 16 */
  readonly directories: readonly PeDirectory[];
  /** section headers in file order */
  readonly sections: readonly PeSection[];
  /** the certificate table, when the image carries one */
  readonly certificates: PeDirectory | undefined;
}

/**
 * Decodes the headers of a PE32+ image and checks that everything they announce is inside the file.
 *
 * @param image - The whole file; not retained, not modified.
 * @returns Headers, directories and sections in host representation.
 * @throws {UkiSignError} `UKI_SIGN_PE_TRUNCATED` when a header or section ends after the file,
 *   `UKI_SIGN_PE_BAD_MAGIC` when `MZ` or `PE\0\0` is missing,
 *   `UKI_SIGN_PE_UNSUPPORTED` when the image is not PE32+ or has more than {@link DEFAULT_MAX_PE_SECTIONS} sections,
 *   `UKI_SIGN_PE_INVALID` when alignments are no powers of two or the certificate table is not the file's end.
 * @see PE Format, "Overview" to "Section Table (Section Headers)"
 * @example
 * const { sections } = decodePe(await readFile("linux.efi"));
 * console.log(sections.map((section) => section.name));
 */
export function decodePe(image: Bytes): PeImage {
  const view = new ByteView(image);
  if (view.u16(0, "the MS-DOS magic") !== pe.DOS_MAGIC) {
    throw new UkiSignError("UKI_SIGN_PE_BAD_MAGIC", "expected a PE image beginning with MZ, got other bytes", {
      offset: 0,
    });
  }
  const peOffset = view.u32(pe.DOS_PE_OFFSET, "the offset of the PE header");
  const signature = view.u32(peOffset, "the PE signature");
  if (signature !== pe.PE_MAGIC) {
    throw new UkiSignError("UKI_SIGN_PE_BAD_MAGIC", `expected the signature PE\\0\\0, got ${hex(signature)}`, {
      offset: peOffset,
    });
  }

  const coff = peOffset + pe.PE_MAGIC_SIZE;
  view.need(coff, pe.COFF_HEADER_SIZE, "the COFF header");
  const optional = coff + pe.COFF_HEADER_SIZE;
  const optionalSize = view.u16(coff + pe.COFF_SIZE_OF_OPTIONAL_HEADER, "the optional header's size");
  const magic = view.u16(optional, "the optional header");
  if (magic !== pe.PE32_PLUS_MAGIC) {
    throw unsupported(`a PE32+ optional header (0x20b), got ${hex(magic)}`, optional);
  }
  view.need(optional, Math.max(optionalSize, pe.OPTIONAL_HEADER_SIZE), "the optional header");

  const directoryCount = view.u32(optional + pe.OPTIONAL_NUMBER_OF_DIRECTORIES, "the number of directories");
  const directoryOffset = optional + pe.OPTIONAL_HEADER_SIZE;
  if (
    directoryCount > pe.MAX_DIRECTORIES ||
    pe.OPTIONAL_HEADER_SIZE + directoryCount * pe.DIRECTORY_SIZE > optionalSize
  ) {
    throw invalid(
      `at most 16 data directories inside the ${optionalSize}-byte optional header, got ${directoryCount}`,
      optional + pe.OPTIONAL_NUMBER_OF_DIRECTORIES,
    );
  }
  const directories = Array.from({ length: directoryCount }, (_, index) => ({
    address: view.u32(directoryOffset + index * pe.DIRECTORY_SIZE, "a data directory"),
    size: view.u32(directoryOffset + index * pe.DIRECTORY_SIZE + 4, "a data directory"),
  }));

  const sectionCount = view.u16(coff + pe.COFF_NUMBER_OF_SECTIONS, "the number of sections");
  if (sectionCount > DEFAULT_MAX_PE_SECTIONS) {
    throw unsupported(
      `at most ${DEFAULT_MAX_PE_SECTIONS} sections, got ${sectionCount}`,
      coff + pe.COFF_NUMBER_OF_SECTIONS,
    );
  }
  const sectionTableOffset = optional + optionalSize;
  view.need(sectionTableOffset, sectionCount * pe.SECTION_HEADER_SIZE, "the section table");
  const sections = Array.from({ length: sectionCount }, (_, index) =>
    decodeSection(view, sectionTableOffset + index * pe.SECTION_HEADER_SIZE),
  );

  const decoded: PeImage = {
    fileSize: view.length,
    peOffset,
    optionalHeaderOffset: optional,
    sectionTableOffset,
    checksumOffset: optional + pe.OPTIONAL_CHECKSUM,
    certificateDirectoryOffset:
      directoryCount > pe.DIRECTORY_CERTIFICATES
        ? directoryOffset + pe.DIRECTORY_CERTIFICATES * pe.DIRECTORY_SIZE
        : undefined,
    machine: view.u16(coff + pe.COFF_MACHINE, "the machine"),
    timeDateStamp: view.u32(coff + pe.COFF_TIME_DATE_STAMP, "the time stamp"),
    entryPoint: view.u32(optional + pe.OPTIONAL_ENTRY_POINT, "the entry point"),
    imageBase: view.u64(optional + pe.OPTIONAL_IMAGE_BASE, "the image base"),
    sectionAlignment: view.u32(optional + pe.OPTIONAL_SECTION_ALIGNMENT, "the section alignment"),
    fileAlignment: view.u32(optional + pe.OPTIONAL_FILE_ALIGNMENT, "the file alignment"),
    sizeOfImage: view.u32(optional + pe.OPTIONAL_SIZE_OF_IMAGE, "the size of the image"),
    sizeOfHeaders: view.u32(optional + pe.OPTIONAL_SIZE_OF_HEADERS, "the size of the headers"),
    checksum: view.u32(optional + pe.OPTIONAL_CHECKSUM, "the checksum"),
    subsystem: view.u16(optional + pe.OPTIONAL_SUBSYSTEM, "the subsystem"),
    dllCharacteristics: view.u16(optional + pe.OPTIONAL_DLL_CHARACTERISTICS, "the characteristics"),
    directories,
    sections,
    certificates: certificateTable(directories),
  };
  checkLayout(decoded, view);
  return decoded;
}

/**
 * The content of one section: its bytes in memory, as far as the file holds them.
 *
 * @param image - The file that `section` was decoded from.
 * @returns `min(virtualSize, rawSize)` bytes: a view of `image` where that is in memory.
 */
export function readPeSection(image: Bytes, section: PeSection): Uint8Array {
  return readBytes(image, section.rawOffset, Math.min(section.virtualSize, section.rawSize));
}

/**
 * The content of one section like {@link readPeSection}, without reading it.
 *
 * @param image - The file that `section` was decoded from.
 * @returns A view of `image` where that is in memory, else a source that reads from `image`.
 */
export function peSectionSource(image: Bytes, section: PeSection): Bytes {
  return partOf(image, section.rawOffset, Math.min(section.virtualSize, section.rawSize));
}

/**
 * The first section of that name.
 *
 * @throws {UkiSignError} `UKI_SIGN_SECTION_MISSING` when there is none.
 */
export function findPeSection(decoded: PeImage, name: string): PeSection {
  const section = decoded.sections.find((candidate) => candidate.name === name);
  if (section !== undefined) return section;
  const names = decoded.sections.map((candidate) => candidate.name).join(" ");
  throw new UkiSignError(
    "UKI_SIGN_SECTION_MISSING",
    `expected a section ${name}, got ${names === "" ? "none" : names}`,
  );
}

function decodeSection(view: ByteView, offset: number): PeSection {
  const section = {
    name: view.latin1(offset, pe.SECTION_NAME_SIZE, "a section name").replace(/\0.*$/s, ""),
    virtualSize: view.u32(offset + pe.SECTION_VIRTUAL_SIZE, "a section header"),
    virtualAddress: view.u32(offset + pe.SECTION_VIRTUAL_ADDRESS, "a section header"),
    rawSize: view.u32(offset + pe.SECTION_SIZE_OF_RAW_DATA, "a section header"),
    rawOffset: view.u32(offset + pe.SECTION_POINTER_TO_RAW_DATA, "a section header"),
    characteristics: view.u32(offset + pe.SECTION_CHARACTERISTICS, "a section header"),
    headerOffset: offset,
  };
  if (section.rawSize > 0) view.need(section.rawOffset, section.rawSize, `the data of section ${section.name}`);
  return section;
}

function certificateTable(directories: readonly PeDirectory[]): PeDirectory | undefined {
  const table = directories[pe.DIRECTORY_CERTIFICATES];
  return table === undefined || (table.address === 0 && table.size === 0) ? undefined : table;
}

function checkLayout(decoded: PeImage, view: ByteView): void {
  const { optionalHeaderOffset: optional, sectionAlignment, fileAlignment, certificates } = decoded;
  if (!isPowerOfTwo(fileAlignment) || fileAlignment > pe.MAX_FILE_ALIGNMENT) {
    throw invalid(
      `a power of two up to 65536 as file alignment, got ${fileAlignment}`,
      optional + pe.OPTIONAL_FILE_ALIGNMENT,
    );
  }
  if (!isPowerOfTwo(sectionAlignment) || sectionAlignment < fileAlignment) {
    throw invalid(
      `a power of two not below the file alignment ${fileAlignment} as section alignment, got ${sectionAlignment}`,
      optional + pe.OPTIONAL_SECTION_ALIGNMENT,
    );
  }
  const tableEnd = decoded.sectionTableOffset + decoded.sections.length * pe.SECTION_HEADER_SIZE;
  if (decoded.sizeOfHeaders < tableEnd) {
    throw invalid(
      `headers of at least ${tableEnd} bytes, got SizeOfHeaders ${decoded.sizeOfHeaders}`,
      optional + pe.OPTIONAL_SIZE_OF_HEADERS,
    );
  }
  view.need(0, decoded.sizeOfHeaders, "the headers");
  if (certificates === undefined) return;
  const where = decoded.certificateDirectoryOffset ?? 0;
  view.need(certificates.address, certificates.size, "the certificate table");
  if (
    certificates.address % pe.CERTIFICATE_ALIGNMENT !== 0 ||
    certificates.address < decoded.sizeOfHeaders ||
    certificates.address + certificates.size !== view.length
  ) {
    throw invalid(
      `an 8-byte aligned certificate table that ends the file of ${view.length} bytes, ` +
        `got ${certificates.size} bytes at ${certificates.address}`,
      where,
    );
  }
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function invalid(expectation: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_PE_INVALID", `expected ${expectation} (at byte ${offset})`, { offset });
}

function unsupported(expectation: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_PE_UNSUPPORTED", `expected ${expectation} (at byte ${offset})`, { offset });
}
