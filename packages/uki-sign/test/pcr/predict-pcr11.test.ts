import { describe, expect, test } from "vitest";
import {
  BOOT_PHASES,
  buildUki,
  type MeasuredSection,
  measuredSections,
  type PcrBank,
  predictPcr11,
  predictPcr11Table,
} from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";
import { bytes, testKernel, testStub } from "../support/pe.ts";

const hex = (value: Uint8Array) => Buffer.from(value).toString("hex");

// Values printed by systemd-measure 257.13-1~deb13u1, given one file per section that holds `content of NAME` without
// newline. That version takes the file of --dtbauto for .hwids and the other way round, so the two are swapped here.
const SWAPPED: Record<string, string> = { dtbauto: "hwids", hwids: "dtbauto" };
const sections: MeasuredSection[] =
  "hwids profile linux osrel cmdline initrd ucode splash dtb dtbauto uname sbat pcrpkey"
    .split(" ")
    .map((name) => ({ name: `.${name}`, data: bytes(`content of ${SWAPPED[name] ?? name}`) }));
const ENTER_INITRD: Record<PcrBank, string> = {
  sha1: "179f76579216a7ca9c854abc6a3ef09f8e431773",
  sha256: "a122700c13281983fa4b71397455f054923d518f11710e8b382d37264542e983",
  sha384: "136ebf785ab144e623cda232f2fc225e1726b0094c404ba98dbfa11380509e1329d1d78d46d0956d1296e7262e473ebd",
  sha512:
    "d23b6fb17981db6d668ab79c442e1c22af97e3218d4ca752c451ab6b41a64c946dedda1a450d63a2cda8405fbb5f60c4f9bb05f961b39490d7dd180cd24e54fa",
};
const READY: Record<PcrBank, string> = {
  sha1: "091e084f32bcb59da97ae8086719d4e19f4131c6",
  sha256: "463886406724418b7c0ca97121f9bf8f57e4ad2e24ba23058af909c7fe8ba82f",
  sha384: "4b755651fe7c48b88d1b760f805813108dc54b429197c7ff26e0895a56be9a0c90689c0302d3c0734f1ab8615d8c1fe2",
  sha512:
    "060a9ae67769ab4977be192e5759aa2840b0197626c2fa32dc7beece5fac4bb011bbdb11b34ddba6e0dbb9eedd0c16cce94c1112541ebb6646ef9ff02a8ac24d",
};
const BANKS = ["sha1", "sha256", "sha384", "sha512"] as const;

describe("predictPcr11", () => {
  test.each(BANKS)("agrees with systemd-measure in bank %s", (bank) => {
    expect(hex(predictPcr11({ sections, phases: ["enter-initrd"], bank }))).toBe(ENTER_INITRD[bank]);
    expect(hex(predictPcr11({ sections, bank }))).toBe(READY[bank]);
  });

  test("agrees with systemd-measure before any phase", () => {
    const linux = [{ name: ".linux", data: bytes("content of linux") }];
    expect(hex(predictPcr11({ sections: linux, phases: [] }))).toBe(
      "42a841fb7e5d4463e998f6224ceff279ac80839b45c7dc44bfa6b3bbc1b622b5",
    );
  });

  test("does not depend on the order of its input", () => {
    expect(predictPcr11({ sections: sections.toReversed() })).toEqual(predictPcr11({ sections }));
  });

  test("is zero when nothing is measured", () => {
    expect(predictPcr11({ sections: [], phases: [] })).toEqual(new Uint8Array(32));
  });

  test("takes what measuredSections gives", () => {
    const image = buildUki({ stub: testStub(), linux: testKernel(), cmdline: "quiet" });
    expect(predictPcr11({ sections: measuredSections(image) })).toHaveLength(32);
  });

  test.each<[string, object]>([
    ["a section that is not measured", { sections: [{ name: ".pcrsig", data: bytes("{}") }] }],
    ["a section given twice", { sections: [...sections, ...sections] }],
    ["an unknown bank", { sections, bank: "md5" }],
    ["a phase path in place of a phase", { sections, phases: ["enter-initrd:leave-initrd"] }],
  ])("refuses %s", (_name, options) => {
    expect(errorOf(() => predictPcr11(options as Parameters<typeof predictPcr11>[0])).code).toBe(
      "UKI_SIGN_BAD_OPTIONS",
    );
  });
});

describe("predictPcr11Table", () => {
  test("has a line per phase of a boot and bank", () => {
    const table = predictPcr11Table({ sections });
    expect(table).toHaveLength(16);
    expect(table[0]).toMatchObject({ bank: "sha1", phasePath: "enter-initrd" });
    expect(table.at(-1)).toMatchObject({ bank: "sha512", phasePath: BOOT_PHASES.join(":") });
    for (const bank of BANKS) {
      const values = table.filter((line) => line.bank === bank).map(({ value }) => hex(value));
      expect([values[0], values[3]]).toEqual([ENTER_INITRD[bank], READY[bank]]);
    }
  });

  test("is limited to the banks and phases asked for", () => {
    expect(predictPcr11Table({ sections, banks: ["sha256"], phases: ["enter-initrd"] })).toHaveLength(1);
  });

  test("refuses unknown banks", () => {
    const options = { sections, banks: ["md5" as PcrBank] };
    expect(errorOf(() => predictPcr11Table(options)).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});
