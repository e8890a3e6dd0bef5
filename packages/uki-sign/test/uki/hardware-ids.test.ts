import { describe, expect, test } from "vitest";
import {
  decodeHardwareIds,
  encodeHardwareIds,
  type HardwareDescription,
  hardwareIds,
  parseHardwareDescription,
} from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";
import { bytes } from "../support/pe.ts";

// What fwupd 1.9 computes from the SMBIOS tables of a ThinkPad T440s, HardwareID-0 to HardwareID-14.
const T440S = {
  manufacturer: "LENOVO",
  family: "ThinkPad T440s",
  productName: "20ARS19C0C",
  productSku: "LENOVO_MT_20AR_BU_Think_FM_ThinkPad T440s",
  biosVendor: "LENOVO",
  biosVersion: "GJET75WW (2.25 )",
  biosMajor: "02",
  biosMinor: "19",
  enclosureKind: "a",
  baseboardManufacturer: "LENOVO",
  baseboardProduct: "20ARS19C0C",
};
const T440S_IDS = [
  "147efce9-f201-5fc8-ab0c-c859751c3440",
  "b7cceb67-774c-537e-bf8b-22c6107e9a74",
  "f5ff077f-3eeb-5bae-be1c-e98ffe8ce5f8",
  "3faec92a-3ae3-5744-be88-495e90a7d541",
  "660ccba8-1b78-5a33-80e6-9fb8354ee873",
  "8dc9b7c5-f5d5-5850-9ab3-bd6f0549d814",
  "178cd22d-ad9f-562d-ae0a-34009822cdbe",
  "da1da9b6-62f5-5f22-8aaa-14db7eeda2a4",
  "059eb22d-6dc7-59af-abd3-94bbe017f67c",
  "0cf8618d-9eff-537c-9f35-46861406eb9c",
  "f4275c1f-6130-5191-845c-3426247eb6a1",
  "db73af4c-4612-50f7-b8a7-787cf4871847",
  "e093d715-70f7-51f4-b6c8-b4a7e31def85",
  "f8e1de5f-b68c-5f52-9d1a-f1ba52f1f773",
  "6de5d951-d755-576b-bd09-c5cf66b27234",
];
const [BEST = "", NEXT = ""] = T440S_IDS;
const LAPTOP: HardwareDescription = {
  type: "devicetree",
  name: "Laptop",
  compatible: "hare,laptop",
  hwids: [NEXT, BEST],
};
const BOARD: HardwareDescription = { type: "uefi-fw", name: "Häre", fwid: "board-1", hwids: [BEST] };

describe("hardwareIds", () => {
  test("computes what fwupd does", () => {
    expect(hardwareIds(T440S).map(({ index, chid }) => [index, chid])).toEqual([...T440S_IDS.entries()]);
  });

  test("leaves out those with a field that is not there", () => {
    const { manufacturer, family } = T440S;
    expect(hardwareIds({ manufacturer, family }).map(({ index }) => index)).toEqual([11, 14]);
    expect(hardwareIds({})).toEqual([]);
  });

  test("refuses fields it does not know", () => {
    expect(errorOf(() => hardwareIds({ vendor: "LENOVO" } as never)).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("a .hwids section", () => {
  test("gives back the machines, merged and with sorted identifiers", () => {
    const section = encodeHardwareIds([LAPTOP, BOARD, { ...LAPTOP, hwids: [NEXT.toUpperCase()] }]);
    expect(decodeHardwareIds(section)).toEqual([{ ...LAPTOP, hwids: [BEST, NEXT] }, BOARD]);
  });

  test("is refused with the offset when it is cut or damaged", () => {
    const section = encodeHardwareIds([LAPTOP, BOARD]);
    torture(section, decodeHardwareIds);
    expect(errorOf(() => decodeHardwareIds(section.subarray(0, 30))).code).toBe("UKI_SIGN_HWIDS_INVALID");
    expect(errorOf(() => decodeHardwareIds(Uint8Array.of(1, 0, 0, 0))).offset).toBe(0);
    expect(errorOf(() => encodeHardwareIds([])).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("parseHardwareDescription", () => {
  test("reads what ukify reads", () => {
    const text = JSON.stringify({ name: "Laptop", compatible: "hare,laptop", hwids: [BEST.toUpperCase()], more: 1 });
    expect(parseHardwareDescription(text)).toEqual({ ...LAPTOP, hwids: [BEST] });
    expect(parseHardwareDescription(JSON.stringify({ ...BOARD }))).toEqual(BOARD);
  });

  test.each([
    ["no JSON", "name: Laptop"],
    ["no object", "[]"],
    ["no identifiers", JSON.stringify({ ...LAPTOP, hwids: [] })],
    ["an identifier that is none", JSON.stringify({ ...LAPTOP, hwids: ["x"] })],
    ["no name", JSON.stringify({ compatible: "a", hwids: [BEST] })],
    ["a firmware without identifier", JSON.stringify({ ...LAPTOP, type: "uefi-fw" })],
  ])("refuses %s", (_name, text) => {
    expect(errorOf(() => parseHardwareDescription(text)).code).toBe("UKI_SIGN_HWIDS_INVALID");
  });

  test("refuses endless text", () => {
    expect(errorOf(() => parseHardwareDescription(" ".repeat(1 << 21))).code).toBe("UKI_SIGN_TOO_LARGE");
  });
});

test("text of a section is UTF-8", () => {
  const section = encodeHardwareIds([BOARD]);
  const at = Buffer.from(section).indexOf(bytes("Häre"));
  section[at + 1] = 0xff;
  expect(errorOf(() => decodeHardwareIds(section)).code).toBe("UKI_SIGN_HWIDS_INVALID");
});
