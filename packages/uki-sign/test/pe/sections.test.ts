import { describe, expect, test } from "vitest";
import * as pe from "../../src/format/pe.ts";
import { addPeSections, attachSignature, decodePe, findPeSection, readPeSection } from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";
import { bytes, fill, TEST_PE, testPe, testStub, withSymbols, withU32 } from "../support/pe.ts";

const image = testPe();
const content = (file: Uint8Array, name: string) => readPeSection(file, findPeSection(decodePe(file), name));

describe("addPeSections", () => {
  test("puts sections at aligned places in memory and file, and sizes the image", () => {
    const result = addPeSections(image, [
      { name: ".one", data: fill(5000, 1) },
      { name: ".two", data: [fill(3, 2), fill(4, 3)], characteristics: pe.SCN_CNT_CODE },
    ]);
    const decoded = decodePe(result);
    expect(decoded.sections.slice(2)).toMatchObject([
      { name: ".one", virtualAddress: 3 * 4096, virtualSize: 5000, rawOffset: 2560, rawSize: 5120 },
      { name: ".two", virtualAddress: 5 * 4096, virtualSize: 7, rawOffset: 7680, rawSize: 512, characteristics: 0x20 },
    ]);
    expect(decoded.sections[2]?.characteristics).toBe(pe.SCN_CNT_INITIALIZED_DATA + pe.SCN_MEM_READ);
    expect(decoded.sizeOfImage).toBe(6 * 4096);
    expect(decoded.fileSize).toBe(8192);
    expect(content(result, ".two")).toEqual(Uint8Array.of(2, 2, 2, 3, 3, 3, 3));
  });

  test("leaves everything else as it is", () => {
    const result = addPeSections(image, [{ name: ".one", data: fill(1, 1) }]);
    const { sections, sizeOfImage, fileSize, ...headers } = decodePe(result);
    const { sections: before, sizeOfImage: _size, fileSize: _file, ...headersBefore } = decodePe(image);
    expect(headers).toEqual(headersBefore);
    expect(sections.slice(0, 2)).toEqual(before);
    expect(result.subarray(1024, image.length)).toEqual(image.subarray(1024));
    expect([sizeOfImage, fileSize]).toEqual([4 * 4096, image.length + 512]);
  });

  test("does not modify its input, and copies windows of larger buffers right", () => {
    const larger = new Uint8Array(image.length + 20);
    larger.set(image, 7);
    const expected = addPeSections(image, [{ name: ".one", data: fill(1, 1) }]);
    expect(addPeSections(larger.subarray(7, 7 + image.length), [{ name: ".one", data: fill(1, 1) }])).toEqual(expected);
    expect(image).toEqual(testPe());
  });

  test("changes time stamp and characteristics when asked, and drops the checksum", () => {
    const checked = withU32(image, TEST_PE.optional + pe.OPTIONAL_CHECKSUM, 0x1234);
    const result = decodePe(addPeSections(checked, [], { timeDateStamp: 7, clearDllCharacteristics: 0x100 }));
    expect(result).toMatchObject({ timeDateStamp: 7, dllCharacteristics: 0x60, checksum: 0 });
  });

  test("replaces a section in place when asked, and adds a second one otherwise", () => {
    const added = [{ name: ".sbat", data: fill(300, 9) }];
    const replaced = addPeSections(testStub(), added, { replace: [".sbat"] });
    expect(decodePe(replaced).sections.map(({ name }) => name)).toEqual([".text", ".sbat", ".sdmagic"]);
    expect(content(replaced, ".sbat")).toEqual(fill(300, 9));
    expect(replaced.length).toBe(testStub().length);
    expect(decodePe(addPeSections(testStub(), added)).sections.at(-1)?.name).toBe(".sbat");
  });

  test("moves the data after a replaced section that grew in the file", () => {
    const result = addPeSections(testStub(), [{ name: ".sbat", data: fill(4096, 9) }], { replace: [".sbat"] });
    expect(decodePe(result).sections).toMatchObject([
      { name: ".text", rawOffset: 1024 },
      { name: ".sbat", rawOffset: 4096, rawSize: 4096, virtualSize: 4096 },
      { name: ".sdmagic", rawOffset: 8192 },
    ]);
    expect(content(result, ".sdmagic")).toEqual(bytes("#### LoaderInfo: systemd-stub 257 ####\0"));
  });

  test("grows the headers when they have no room", () => {
    const sections = Array.from({ length: 30 }, (_, index) => ({ name: `.s${index}`, data: fill(1, index) }));
    const decoded = decodePe(addPeSections(image, sections));
    expect(decoded.sections).toHaveLength(32);
    expect(decoded).toMatchObject({ sizeOfHeaders: 2048, sections: { 0: { rawOffset: 2048, virtualAddress: 4096 } } });
    const result = addPeSections(image, sections);
    expect(content(result, ".text")).toEqual(fill(700, 0xc3));
    expect(content(result, ".s29")).toEqual(fill(1, 29));
  });

  test("refuses more section headers than fit below the first section", () => {
    const sections = Array.from({ length: 93 }, (_, index) => ({ name: `.s${index}`, data: fill(1, index) }));
    const error = errorOf(() => addPeSections(image, sections));
    expect(error.code).toBe("UKI_SIGN_PE_NO_ROOM");
    expect(error.message).toBe("expected room for 93 section headers, got room for 92");
  });

  test.each<[string, Uint8Array, string]>([
    ["a signed image", attachSignature(image, fill(20, 1)), "UKI_SIGN_PE_UNSUPPORTED"],
    ["an image with data after its sections", Uint8Array.of(...image, 1), "UKI_SIGN_PE_UNSUPPORTED"],
    ["sections with a gap", withU32(image, TEST_PE.sectionTable + 16, 512), "UKI_SIGN_PE_INVALID"],
    ["header room in use", withU32(image, TEST_PE.sectionTable + 80, 1), "UKI_SIGN_PE_NO_ROOM"],
  ])("refuses %s", (_name, file, code) => {
    expect(errorOf(() => addPeSections(file, [{ name: ".one", data: fill(1, 1) }])).code).toBe(code);
  });

  test("refuses to move data that debugging information points to", () => {
    const debug = TEST_PE.optional + pe.OPTIONAL_HEADER_SIZE + pe.DIRECTORY_DEBUG * 8 + 4;
    const grow = [{ name: ".sbat", data: fill(600, 9) }];
    const error = errorOf(() => addPeSections(withU32(testStub(), debug, 28), grow, { replace: [".sbat"] }));
    expect(error.code).toBe("UKI_SIGN_PE_NO_ROOM");
  });

  test("refuses a replaced section that would run into the next one", () => {
    const grow = [{ name: ".text", data: fill(4097, 9) }];
    const error = errorOf(() => addPeSections(testStub(), grow, { replace: [".text"] }));
    expect(error.message).toBe("expected at most 4096 bytes for the existing section .text, got 4097");
  });

  test("puts .sbat, which only its name leads to, behind the others when it would run into the next one", () => {
    const result = addPeSections(testStub(), [{ name: ".sbat", data: fill(4097, 9) }], { replace: [".sbat"] });
    expect(decodePe(result).sections).toMatchObject([
      { name: ".text", rawOffset: 1024, virtualAddress: 4096 },
      { name: ".sdmagic", rawOffset: 4096, virtualAddress: 3 * 4096 },
      { name: ".sbat", rawOffset: 4608, virtualAddress: 4 * 4096, virtualSize: 4097 },
    ]);
    expect(content(result, ".sdmagic")).toEqual(bytes("#### LoaderInfo: systemd-stub 257 ####\0"));
    expect(result).toHaveLength(4608 + 9 * 512);
  });

  describe("of an image with symbols behind its sections", () => {
    const one = [{ name: ".one", data: fill(1, 1) }];

    test("drops them", () => {
      const expected = addPeSections(image, one);
      expect(addPeSections(withSymbols(image, 3, 100), one)).toEqual(expected);
      expect(addPeSections(withSymbols(image, 3, 4), one)).toEqual(expected);
      expect(addPeSections(withSymbols(image, 2, 0), one)).toEqual(expected);
    });

    test("moves data that only they would have had to move with", () => {
      const grow = [{ name: ".sbat", data: fill(600, 9) }];
      const expected = addPeSections(testStub(), grow, { replace: [".sbat"] });
      expect(addPeSections(withSymbols(testStub(), 3, 100), grow, { replace: [".sbat"] })).toEqual(expected);
    });

    test.each<[string, Uint8Array]>([
      ["end before the file", Uint8Array.of(...withSymbols(image, 3, 100), 0)],
      ["end after the file", withSymbols(image, 3, 100).subarray(0, -1)],
      ["begin elsewhere", withU32(withSymbols(image, 3, 100), TEST_PE.coff + 8, image.length + 1)],
      ["are too many", withU32(withSymbols(image, 3, 100), TEST_PE.coff + 12, 0xffff_ffff)],
    ])("refuses tables that %s", (_name, file) => {
      expect(errorOf(() => addPeSections(file, one)).code).toBe("UKI_SIGN_PE_UNSUPPORTED");
    });

    test("lets only its own error escape when they are damaged", () => {
      torture(withSymbols(image, 1, 5), (damaged) => addPeSections(damaged, one));
    });
  });

  test("refuses an image that ends beyond 4 GiB", () => {
    const far = withU32(image, TEST_PE.sectionTable + 40 + pe.SECTION_VIRTUAL_ADDRESS, 0xffff_f000);
    expect(errorOf(() => addPeSections(far, [{ name: ".one", data: fill(1, 1) }])).code).toBe("UKI_SIGN_TOO_LARGE");
  });

  test.each(["", ".much.too.long", "ä", "a b"])("refuses the section name %j", (name) => {
    expect(errorOf(() => addPeSections(image, [{ name, data: fill(1, 1) }])).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("lets only its own error escape from damaged images", () => {
    torture(image, (damaged) => addPeSections(damaged, [{ name: ".one", data: fill(1, 1) }]));
  });
});
