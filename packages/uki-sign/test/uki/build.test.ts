import { describe, expect, test } from "vitest";
import { type BuildUkiOptions, buildUki, decodePe, inspectUki, mergeSbat, readKernelRelease } from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";
import { bytes, fill, SBAT, testKernel, testPe, testStub } from "../support/pe.ts";

const stub = testStub();
const linux = testKernel();
const text = (image: Uint8Array, name: string) =>
  inspectUki(image).sections.find((section) => section.name === name)?.text;
const names = (image: Uint8Array) => decodePe(image).sections.map(({ name }) => name);

describe("buildUki", () => {
  test("needs stub and kernel only, and takes the release from the kernel", () => {
    const image = buildUki({ stub, linux });
    expect(names(image)).toEqual([".text", ".sbat", ".sdmagic", ".uname", ".linux"]);
    expect(text(image, ".uname")).toBe("6.12.41+test-amd64");
  });

  test("puts everything in the order of ukify", () => {
    const part = fill(10, 1);
    const image = buildUki({
      stub,
      linux,
      initrd: part,
      cmdline: "quiet",
      osRelease: "ID=test\n",
      uname: "1",
      pcrpkey: "key",
      pcrsig: "{}",
      splash: part,
      dtb: part,
      dtbauto: [part, part],
      hwids: part,
      ucode: part,
      profile: "ID=main\n",
      sections: [{ name: ".own", data: part }],
    });
    expect(names(image).slice(3)).toEqual(
      ".osrel .cmdline .dtb .dtbauto .dtbauto .hwids .uname .splash .pcrpkey .linux .initrd .ucode .own .profile .pcrsig".split(
        " ",
      ),
    );
  });

  test("merges the .sbat texts of stub, kernel and options into the stub's section", () => {
    const kernel = testKernel("1", {
      sections: [{ name: ".sbat", data: bytes(`${SBAT}linux,1,Linux,linux,6.12,https://kernel.org/\n\0\0`) }],
    });
    const own = `${SBAT}linux.test,2,Test,linux,1,https://example.org/\n`;
    expect(text(buildUki({ stub, linux: kernel, sbat: [own] }), ".sbat")).toBe(
      `${SBAT}systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n` +
        "linux,1,Linux,linux,6.12,https://kernel.org/\nlinux.test,2,Test,linux,1,https://example.org/\n",
    );
    expect(text(buildUki({ stub, linux }), ".sbat")).toMatch(/\nuki,1,UKI,uki,1,/);
  });

  test("adds a .sbat section when the stub has none", () => {
    expect(names(buildUki({ stub: testPe(), linux })).at(-1)).toBe(".sbat");
  });

  test("joins initrds at multiples of 4 bytes and leaves a single one alone", () => {
    const size = (initrd: BuildUkiOptions["initrd"]) =>
      inspectUki(buildUki({ stub, linux, initrd })).sections.find(({ name }) => name === ".initrd")?.sizeBytes;
    expect(size(fill(5, 1))).toBe(5);
    expect(size([fill(5, 1)])).toBe(5);
    expect(size([fill(5, 1), fill(8, 2), fill(3, 3)])).toBe(20);
  });

  test("makes one line of the kernel command line", () => {
    expect(text(buildUki({ stub, linux, cmdline: "  quiet\n\troot=dissect \n" }), ".cmdline")).toBe(
      "quiet root=dissect",
    );
  });

  test("takes a kernel command line in bytes as it is", () => {
    const cmdline = "  quiet\n\troot=dissect \n";
    expect(text(buildUki({ stub, linux, cmdline: new TextEncoder().encode(cmdline) }), ".cmdline")).toBe(cmdline);
    expect(errorOf(() => buildUki({ stub, linux, cmdline: new Uint8Array() })).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("asks for NX protection only when the kernel copes with it", () => {
    const old = testKernel("1", { dllCharacteristics: 0 });
    expect(decodePe(buildUki({ stub, linux })).dllCharacteristics).toBe(0x160);
    expect(decodePe(buildUki({ stub, linux: old })).dllCharacteristics).toBe(0x60);
  });

  test("keeps the stub's time stamp unless told another, and makes the same bytes every time", () => {
    expect(decodePe(buildUki({ stub, linux })).timeDateStamp).toBe(1_700_000_000);
    expect(decodePe(buildUki({ stub, linux, timeDateStamp: 1 })).timeDateStamp).toBe(1);
    expect(buildUki({ stub, linux, initrd: fill(9, 9) })).toEqual(buildUki({ stub, linux, initrd: fill(9, 9) }));
  });

  test("takes a large initrd in one copy", () => {
    const initrd = fill(64 << 20, 7);
    const started = performance.now();
    const image = buildUki({ stub, linux, initrd });
    expect(image.length).toBeGreaterThan(initrd.length);
    // A generous bound on an idle or a busy machine; quadratic copying takes minutes.
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test.each<[string, unknown, string, string | undefined]>([
    ["an unknown option", { stub, linux, initramfs: fill(1, 1) }, "UKI_SIGN_BAD_OPTIONS", undefined],
    ["no kernel", { stub }, "UKI_SIGN_BAD_OPTIONS", "linux"],
    ["an empty initrd", { stub, linux, initrd: fill(0, 0) }, "UKI_SIGN_BAD_OPTIONS", "initrd"],
    ["a blank command line", { stub, linux, cmdline: " \n" }, "UKI_SIGN_BAD_OPTIONS", "cmdline"],
    ["a NUL in the command line", { stub, linux, cmdline: "a\0b" }, "UKI_SIGN_BAD_OPTIONS", "cmdline"],
    [
      "a further section with a name of its own option",
      { stub, linux, sections: [{ name: ".linux", data: fill(1, 1) }] },
      "UKI_SIGN_BAD_OPTIONS",
      "sections.0.name",
    ],
    ["a kernel that is no PE image", { stub, linux: bytes("\x7fELF") }, "UKI_SIGN_PE_BAD_MAGIC", "linux"],
    ["a stub that is no PE image", { stub: fill(100, 1), linux }, "UKI_SIGN_PE_BAD_MAGIC", "stub"],
    [
      "a kernel for another machine",
      { stub, linux: testKernel("1", { machine: 0xaa64 }) },
      "UKI_SIGN_PE_UNSUPPORTED",
      "linux",
    ],
    ["a .sbat text without header", { stub, linux, sbat: ["linux,1\n"] }, "UKI_SIGN_SBAT_INVALID", "sbat[1]"],
  ])("refuses %s", (_name, options, code, field) => {
    const error = errorOf(() => buildUki(options as BuildUkiOptions));
    expect([error.code, error.field]).toEqual([code, field]);
  });
});

describe("mergeSbat", () => {
  test("keeps one header and ends with newline and NUL", () => {
    expect(mergeSbat([`${SBAT}a,1\n`, `${SBAT}b,2,B,b,1,https://b/\r\n\n`, `${SBAT.trim()}\0\0`])).toBe(
      `${SBAT}a,1\nb,2,B,b,1,https://b/\n\0`,
    );
  });

  test.each(["", "a,1\n", "sbat,2,x\n", `${SBAT}a\n`, `${SBAT}a,x\n`, `${SBAT},1\n`, `${SBAT}a,1,ä\n`])(
    "refuses %j",
    (entry) => {
      expect(errorOf(() => mergeSbat([entry])).code).toBe("UKI_SIGN_SBAT_INVALID");
    },
  );
});

describe("readKernelRelease", () => {
  test("reads it from a bzImage", () => {
    expect(readKernelRelease(testKernel("6.1.0-9-cloud"))).toBe("6.1.0-9-cloud");
  });

  test("is undefined for other files, and for pointers out of the file", () => {
    expect(readKernelRelease(testPe())).toBeUndefined();
    expect(readKernelRelease(fill(10, 0))).toBeUndefined();
    const kernel = testKernel();
    for (let size = 0; size < 2048; size += 13) readKernelRelease(kernel.subarray(0, size));
  });
});
