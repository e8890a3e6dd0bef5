import * as pe from "../../src/format/pe.ts";

/** What {@link testPe} varies. */
export interface TestPeOptions {
  readonly sections?: readonly { readonly name: string; readonly data: Uint8Array; readonly virtualSize?: number }[];
  /** size of the headers in the file, room for section headers included */
  readonly headerSize?: number;
  readonly machine?: number;
  readonly dllCharacteristics?: number;
  readonly directories?: number;
}

const OPTIONAL = 64 + pe.PE_MAGIC_SIZE + pe.COFF_HEADER_SIZE;
const FILE_ALIGNMENT = 512;
const SECTION_ALIGNMENT = 4096;

/** A small PE32+ EFI image, made from the specification without the code under test. */
export function testPe(options: TestPeOptions = {}): Uint8Array {
  const { machine = pe.MACHINE_AMD64, headerSize = 1024, directories = 16, dllCharacteristics = 0x160 } = options;
  const sections = options.sections ?? [
    { name: ".text", data: fill(700, 0xc3) },
    { name: ".data", data: fill(40, 0x11) },
  ];
  const rawSizes = sections.map(({ data }) => Math.ceil(data.length / FILE_ALIGNMENT) * FILE_ALIGNMENT);
  const image = new Uint8Array(rawSizes.reduce((sum, size) => sum + size, headerSize));
  const view = new DataView(image.buffer);
  view.setUint16(0, pe.DOS_MAGIC, true);
  view.setUint32(pe.DOS_PE_OFFSET, 64, true);
  view.setUint32(64, pe.PE_MAGIC, true);
  const coff = 64 + pe.PE_MAGIC_SIZE;
  view.setUint16(coff + pe.COFF_MACHINE, machine, true);
  view.setUint16(coff + pe.COFF_NUMBER_OF_SECTIONS, sections.length, true);
  view.setUint32(coff + pe.COFF_TIME_DATE_STAMP, 1_700_000_000, true);
  const optionalSize = pe.OPTIONAL_HEADER_SIZE + directories * pe.DIRECTORY_SIZE;
  view.setUint16(coff + pe.COFF_SIZE_OF_OPTIONAL_HEADER, optionalSize, true);
  view.setUint16(coff + pe.COFF_CHARACTERISTICS, 0x22e, true);
  view.setUint16(OPTIONAL, pe.PE32_PLUS_MAGIC, true);
  view.setUint32(OPTIONAL + pe.OPTIONAL_ENTRY_POINT, SECTION_ALIGNMENT, true);
  view.setBigUint64(OPTIONAL + pe.OPTIONAL_IMAGE_BASE, 0x1_4000_0000n, true);
  view.setUint32(OPTIONAL + pe.OPTIONAL_SECTION_ALIGNMENT, SECTION_ALIGNMENT, true);
  view.setUint32(OPTIONAL + pe.OPTIONAL_FILE_ALIGNMENT, FILE_ALIGNMENT, true);
  view.setUint32(OPTIONAL + pe.OPTIONAL_SIZE_OF_HEADERS, headerSize, true);
  view.setUint16(OPTIONAL + pe.OPTIONAL_SUBSYSTEM, 10, true);
  view.setUint16(OPTIONAL + pe.OPTIONAL_DLL_CHARACTERISTICS, dllCharacteristics, true);
  view.setUint32(OPTIONAL + pe.OPTIONAL_NUMBER_OF_DIRECTORIES, directories, true);
  let rawOffset = headerSize;
  let virtualAddress = SECTION_ALIGNMENT;
  for (const [index, { name, data, virtualSize = data.length }] of sections.entries()) {
    const header = OPTIONAL + optionalSize + index * pe.SECTION_HEADER_SIZE;
    image.set(new TextEncoder().encode(name), header);
    view.setUint32(header + pe.SECTION_VIRTUAL_SIZE, virtualSize, true);
    view.setUint32(header + pe.SECTION_VIRTUAL_ADDRESS, virtualAddress, true);
    view.setUint32(header + pe.SECTION_SIZE_OF_RAW_DATA, rawSizes[index] ?? 0, true);
    view.setUint32(header + pe.SECTION_POINTER_TO_RAW_DATA, rawOffset, true);
    view.setUint32(header + pe.SECTION_CHARACTERISTICS, pe.SCN_CNT_CODE + pe.SCN_MEM_READ, true);
    image.set(data, rawOffset);
    rawOffset += rawSizes[index] ?? 0;
    virtualAddress += Math.ceil(virtualSize / SECTION_ALIGNMENT) * SECTION_ALIGNMENT;
  }
  view.setUint32(OPTIONAL + pe.OPTIONAL_SIZE_OF_IMAGE, virtualAddress, true);
  return image;
}

/** Where the fields of a {@link testPe} are in the file. */
export const TEST_PE = {
  peOffset: 64,
  coff: 68,
  optional: OPTIONAL,
  sectionTable: OPTIONAL + pe.OPTIONAL_HEADER_SIZE + 16 * pe.DIRECTORY_SIZE,
} as const;

/** A copy with one little-endian u32 changed. */
export function withU32(image: Uint8Array, offset: number, value: number): Uint8Array {
  const copy = image.slice();
  new DataView(copy.buffer).setUint32(offset, value, true);
  return copy;
}

/** A copy with one little-endian u16 changed. */
export function withU16(image: Uint8Array, offset: number, value: number): Uint8Array {
  const copy = image.slice();
  new DataView(copy.buffer).setUint16(offset, value, true);
  return copy;
}

/** An image with COFF symbols behind its sections, and a string table of `stringsSize` bytes unless that is 0. */
export function withSymbols(image: Uint8Array, count: number, stringsSize: number): Uint8Array {
  const symbols = fill(count * 18, 0x2a);
  const strings = fill(stringsSize, 0x61);
  if (stringsSize > 0) new DataView(strings.buffer).setUint32(0, stringsSize, true);
  const file = Uint8Array.of(...image, ...symbols, ...strings);
  return withU32(withU32(file, TEST_PE.coff + 8, image.length), TEST_PE.coff + 12, count);
}

/** A stub like systemd's: code and a `.sbat` section. */
export function testStub(options: TestPeOptions = {}): Uint8Array {
  return testPe({
    sections: [
      { name: ".text", data: fill(3000, 0xc3) },
      {
        name: ".sbat",
        data: bytes(`${SBAT}systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n\0`),
      },
      { name: ".sdmagic", data: bytes("#### LoaderInfo: systemd-stub 257 ####\0") },
    ],
    ...options,
  });
}

/** First line of `.sbat` texts. */
export const SBAT = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";

/** A kernel as far as UKI assembly looks at one: a PE image that is also a bzImage with a release. */
export function testKernel(release = "6.12.41+test-amd64", options: TestPeOptions = {}): Uint8Array {
  const kernel = testPe({ headerSize: 2048, sections: [{ name: ".text", data: fill(5000, 0x90) }], ...options });
  const view = new DataView(kernel.buffer);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x20e, 0x400, true);
  kernel.set(bytes(`${release} (builder@host) #1 SMP 2026-01-01\0`), 0x600);
  return kernel;
}

export function fill(size: number, octet: number): Uint8Array {
  return new Uint8Array(size).fill(octet);
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
