import { describe, expect, test } from "vitest";
import { buildUkiAddon, decodePe, findPeSection, readPeSection } from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";
import { bytes, fill, SBAT, testPe } from "../support/pe.ts";

const stub = testPe();

describe("buildUkiAddon", () => {
  test("puts what it adds in the order of ukify, and says how it can be revoked", () => {
    const part = fill(9, 1);
    const addon = buildUkiAddon({
      stub,
      cmdline: "debug",
      dtb: part,
      uname: "6.12",
      initrd: [part, part],
      ucode: part,
    });
    const decoded = decodePe(addon);
    expect(decoded.sections.slice(2).map(({ name }) => name)).toEqual([
      ".cmdline",
      ".dtb",
      ".uname",
      ".initrd",
      ".ucode",
      ".sbat",
    ]);
    const sbat = Buffer.from(readPeSection(addon, findPeSection(decoded, ".sbat"))).toString();
    expect(sbat.split("\n")[1]).toMatch(/^uki-addon,1,/);
  });

  test("takes other entries for its revocation", () => {
    const addon = buildUkiAddon({ stub, cmdline: "debug", sbat: [`${SBAT}own,2\n`] });
    const sbat = Buffer.from(readPeSection(addon, findPeSection(decodePe(addon), ".sbat")));
    expect(sbat.equals(bytes(`${SBAT}own,2\n\0`))).toBe(true);
  });

  test.each<[string, object]>([
    ["an addon that adds nothing", { stub }],
    ["an addon that only names a kernel", { stub, uname: "6.12" }],
    ["parts that only an image has", { stub, cmdline: "debug", linux: stub }],
  ])("refuses %s", (_name, options) => {
    const error = errorOf(() => buildUkiAddon(options as Parameters<typeof buildUkiAddon>[0]));
    expect(error.code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("names the stub when it is no image", () => {
    expect(errorOf(() => buildUkiAddon({ stub: fill(9, 1), cmdline: "debug" })).field).toBe("stub");
  });
});
