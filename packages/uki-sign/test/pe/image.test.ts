import { describe, expect, test } from "vitest";
import * as pe from "../../src/format/pe.ts";
import { DEFAULT_MAX_PE_SECTIONS, decodePe, findPeSection, readPeSection } from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";
import { fill, TEST_PE, testPe, withU16, withU32 } from "../support/pe.ts";

const image = testPe();
const { coff, optional, sectionTable } = TEST_PE;
const certificates = optional + pe.OPTIONAL_HEADER_SIZE + pe.DIRECTORY_CERTIFICATES * pe.DIRECTORY_SIZE;

describe("decodePe", () => {
  test("reads headers, directories and sections", () => {
    expect(decodePe(image)).toMatchObject({
      fileSize: image.length,
      peOffset: 64,
      machine: pe.MACHINE_AMD64,
      timeDateStamp: 1_700_000_000,
      imageBase: 0x1_4000_0000n,
      sectionAlignment: 4096,
      fileAlignment: 512,
      sizeOfImage: 3 * 4096,
      sizeOfHeaders: 1024,
      subsystem: 10,
      certificates: undefined,
      certificateDirectoryOffset: certificates,
      sections: [
        { name: ".text", virtualAddress: 4096, virtualSize: 700, rawOffset: 1024, rawSize: 1024 },
        { name: ".data", virtualAddress: 8192, virtualSize: 40, rawOffset: 2048, rawSize: 512 },
      ],
    });
  });

  test("reads an image that is a window into a larger buffer", () => {
    const larger = new Uint8Array(image.length + 20);
    larger.set(image, 7);
    expect(decodePe(larger.subarray(7, 7 + image.length))).toEqual(decodePe(image));
  });

  test.each<[string, Uint8Array, string, number]>([
    ["an empty file", new Uint8Array(), "UKI_SIGN_PE_TRUNCATED", 0],
    ["another magic", withU16(image, 0, 0x4142), "UKI_SIGN_PE_BAD_MAGIC", 0],
    ["a PE header beyond the file", withU32(image, 0x3c, 0xffff_fff0), "UKI_SIGN_PE_TRUNCATED", 0xffff_fff0],
    ["another signature", withU32(image, 64, 0x454e), "UKI_SIGN_PE_BAD_MAGIC", 64],
    ["a PE32 image", withU16(image, optional, 0x10b), "UKI_SIGN_PE_UNSUPPORTED", optional],
    ["17 directories", withU32(image, optional + 108, 17), "UKI_SIGN_PE_INVALID", optional + 108],
    ["directories beyond the header", withU16(image, coff + 16, 112 + 15 * 8), "UKI_SIGN_PE_INVALID", optional + 108],
    ["too many sections", withU16(image, coff + 2, 97), "UKI_SIGN_PE_UNSUPPORTED", coff + 2],
    ["section headers beyond the headers", withU16(image, coff + 2, 96), "UKI_SIGN_PE_TRUNCATED", sectionTable],
    ["section data beyond the file", withU32(image, sectionTable + 16, 1 << 20), "UKI_SIGN_PE_TRUNCATED", 1024],
    ["file alignment 0", withU32(image, optional + 36, 0), "UKI_SIGN_PE_INVALID", optional + 36],
    ["file alignment 3", withU32(image, optional + 36, 3), "UKI_SIGN_PE_INVALID", optional + 36],
    ["file alignment 128 KiB", withU32(image, optional + 36, 1 << 17), "UKI_SIGN_PE_INVALID", optional + 36],
    ["section below file alignment", withU32(image, optional + 32, 256), "UKI_SIGN_PE_INVALID", optional + 32],
    ["too small headers", withU32(image, optional + 60, 200), "UKI_SIGN_PE_INVALID", optional + 60],
    ["headers beyond the file", withU32(image, optional + 60, 1 << 20), "UKI_SIGN_PE_TRUNCATED", 0],
    ["certificates beyond the file", withU32(image, certificates, 1 << 20), "UKI_SIGN_PE_TRUNCATED", 1 << 20],
    ["certificates inside the file", withU32(image, certificates, 2048), "UKI_SIGN_PE_INVALID", certificates],
  ])("refuses %s", (_name, bytes, code, offset) => {
    const error = errorOf(() => decodePe(bytes));
    expect([error.code, error.offset]).toEqual([code, offset]);
    expect(error.message).toMatch(/^expected .*, got /);
  });

  test(`reads ${DEFAULT_MAX_PE_SECTIONS} sections`, () => {
    const sections = Array.from({ length: DEFAULT_MAX_PE_SECTIONS }, (_, index) => ({
      name: `.s${index}`,
      data: fill(1, index),
    }));
    const decoded = decodePe(testPe({ sections, headerSize: 4608 }));
    expect(decoded.sections.map(({ name }) => name)).toEqual(sections.map(({ name }) => name));
  });

  test("lets only its own error escape from damaged images", () => {
    torture(image, (bytes) => decodePe(bytes));
  });
});

test("readPeSection returns what the section has in memory, without padding", () => {
  const data = readPeSection(image, findPeSection(decodePe(image), ".data"));
  expect(data).toEqual(fill(40, 0x11));
  expect(data.buffer).toBe(image.buffer);
});

test("findPeSection names the sections there are", () => {
  const error = errorOf(() => findPeSection(decodePe(image), ".linux"));
  expect(error.code).toBe("UKI_SIGN_SECTION_MISSING");
  expect(error.message).toBe("expected a section .linux, got .text .data");
});
