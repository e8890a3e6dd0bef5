import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { addPeSections, attachSignature, buildUki, inspectUki, measuredSections } from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";
import { bytes, fill, TEST_PE, testKernel, testPe, testStub, withU32 } from "../support/pe.ts";

const image = buildUki({ stub: testStub(), linux: testKernel("6.1"), cmdline: "quiet", osRelease: "ID=täst\n" });

describe("inspectUki", () => {
  test("describes every section, with the text of those that hold text", () => {
    const { sections, ...rest } = inspectUki(image);
    expect(rest).toEqual({
      kind: "image",
      profiles: [],
      sizeBytes: image.length,
      machine: 0x8664,
      timeDateStamp: 1_700_000_000,
      signatures: 0,
    });
    expect(sections.map(({ name, kind }) => `${name} ${kind}`)).toEqual([
      ".text stub",
      ".sbat text",
      ".sdmagic text",
      ".osrel text",
      ".cmdline text",
      ".uname text",
      ".linux binary",
    ]);
    expect(sections[3]).toMatchObject({ sizeBytes: 9, text: "ID=täst\n" });
    expect(sections[4]?.sha256).toBe(createHash("sha256").update("quiet").digest("hex"));
  });

  test("counts signatures", () => {
    expect(inspectUki(attachSignature(image, fill(9, 1))).signatures).toBe(1);
  });

  test("gives no text for bytes that are not UTF-8", () => {
    const broken = addPeSections(image, [{ name: ".osrel", data: fill(4, 0xff) }]);
    expect(inspectUki(broken).sections.at(-1)).toMatchObject({ kind: "binary", sizeBytes: 4 });
    expect(inspectUki(broken).sections.at(-1)).not.toHaveProperty("text");
  });

  test("refuses an EFI program that is no unified kernel image", () => {
    expect(errorOf(() => inspectUki(testPe())).code).toBe("UKI_SIGN_SECTION_MISSING");
  });

  test("lets only the package's error escape from damaged images", () => {
    torture(image, (damaged) => inspectUki(damaged), 13);
  });
});

describe("measuredSections", () => {
  const named = (file: Uint8Array, options = {}) =>
    measuredSections(file, options).map(({ name, data }) => `${name} ${data.length}`);

  test("takes what the stub measures, in its order, with exact sizes", () => {
    expect(named(image).map((entry) => entry.split(" ")[0])).toEqual([
      ".linux",
      ".osrel",
      ".cmdline",
      ".uname",
      ".sbat",
    ]);
    expect(named(image)).toContain(".cmdline 5");
  });

  test("leaves out what an old stub does not know", () => {
    const names = [".linux", ".osrel", ".cmdline", ".unamed"].map((name) => `${name}\0`).join("");
    const stub = testStub({
      sections: [
        { name: ".text", data: fill(99, 0xc3) },
        { name: ".data", data: bytes(names) },
      ],
    });
    const old = buildUki({ stub, linux: testKernel("6.1"), cmdline: "quiet", osRelease: "ID=hare\n" });
    expect(measuredSections(old).map(({ name }) => name)).toEqual([".linux", ".osrel", ".cmdline"]);
  });

  test("takes device trees only when told which one the machine picks", () => {
    const trees = addPeSections(image, [
      { name: ".dtbauto", data: fill(1, 1) },
      { name: ".dtbauto", data: fill(2, 1) },
    ]);
    expect(named(trees)).toEqual(named(image));
    expect(named(trees, { dtbauto: 1 })).toContain(".dtbauto 2");
    expect(errorOf(() => named(trees, { dtbauto: 2 })).code).toBe("UKI_SIGN_SECTION_MISSING");
  });

  test("takes the first profile of several, whose sections hide those before it", () => {
    const profiles = addPeSections(image, [
      { name: ".profile", data: bytes("ID=main") },
      { name: ".cmdline", data: fill(6, 1) },
      { name: ".pcrsig", data: fill(3, 1) },
      { name: ".profile", data: bytes("ID=other") },
      { name: ".cmdline", data: fill(8, 1) },
    ]);
    expect(named(profiles)).toContain(".cmdline 6");
    expect(named(profiles)).toContain(".profile 7");
    expect(named(profiles).join()).not.toContain(".pcrsig");
  });

  test("refuses a section that is longer in memory than in the file", () => {
    const stretched = withU32(image, TEST_PE.sectionTable + 4 * 40 + 8, 600);
    expect(errorOf(() => named(stretched)).code).toBe("UKI_SIGN_PE_INVALID");
  });
});
