import * as zlib from "node:zlib";
import { describe, expect, test } from "vitest";
import { buildUki, decodePe, findPeSection, readKernelRelease, readPeSection, unpackKernel } from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";
import { bytes, fill, testKernel, testPe, testStub } from "../support/pe.ts";

const BANNER = "Linux version %s\0 Linux version 6.1.0-arm64 (builder@host) (gcc) #1 SMP";
const kernel = testPe({ sections: [{ name: ".text", data: bytes(BANNER) }] });

/** An EFI zboot image, from the specification: a PE image that names a packed kernel in it. */
function zboot(payload: Uint8Array): Uint8Array {
  const image = testPe({ sections: [{ name: ".text", data: payload }] });
  const view = new DataView(image.buffer);
  view.setUint32(4, 0x676d697a, true);
  view.setUint32(8, decodePe(image).sections[0]?.rawOffset ?? 0, true);
  view.setUint32(12, payload.length, true);
  return image;
}

describe("readKernelRelease", () => {
  test("finds the text that every kernel carries, also when it is packed in a zboot image", () => {
    expect(readKernelRelease(kernel)).toBe("6.1.0-arm64");
    expect(readKernelRelease(zboot(new Uint8Array(zlib.gzipSync(bytes(BANNER)))))).toBe("6.1.0-arm64");
  });

  test("does without it when a zboot image cannot be unpacked or nothing is found", () => {
    expect(readKernelRelease(zboot(Uint8Array.of(0x5d, 0, 0, 1, 2, 3)))).toBeUndefined();
    expect(readKernelRelease(zboot(Uint8Array.of(0x1f, 0x8b, 1, 2, 3)))).toBeUndefined();
    expect(readKernelRelease(testPe())).toBeUndefined();
    expect(readKernelRelease(new Uint8Array())).toBeUndefined();
  });

  test("throws nothing on damaged images", () => {
    torture(zboot(new Uint8Array(zlib.gzipSync(bytes(BANNER)))), readKernelRelease, 3);
    torture(new Uint8Array(zlib.gzipSync(bytes(BANNER))), unpackKernel);
  });
});

describe("unpackKernel", () => {
  test("unpacks gzip, and leaves kernels as they are", () => {
    expect(unpackKernel(new Uint8Array(zlib.gzipSync(kernel)))).toEqual(kernel);
    expect(unpackKernel(kernel)).toBe(kernel);
  });

  test.each([
    ["lz4", [0x02, 0x21, 0x4c, 0x18]],
    ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
    ["damaged gzip", [0x1f, 0x8b, 8, 0, 1]],
  ])("refuses %s by name", (name, start) => {
    const error = errorOf(() => unpackKernel(Uint8Array.from(start)));
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_KERNEL_COMPRESSED",
      expect.stringContaining(name.replace("damaged ", "")),
    ]);
  });

  test("happens when an image is built", () => {
    const linux = testKernel("6.12");
    const options = { stub: testStub(), cmdline: "quiet", initrd: fill(10, 1) };
    expect(buildUki({ ...options, linux: new Uint8Array(zlib.gzipSync(linux)) })).toEqual(
      buildUki({ ...options, linux }),
    );
    const image = buildUki({ ...options, linux });
    expect(readPeSection(image, findPeSection(decodePe(image), ".linux"))).toEqual(linux);
  });
});
