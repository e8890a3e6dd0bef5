import { describe, expect, test } from "vitest";
import { decodeSuperblock, ErofsError } from "../src/index.ts";
import { crc32c } from "../src/internal/crc32c.ts";
import { BLOCK, tinyImage } from "./tiny-image.ts";

function codeOf(image: Uint8Array): string | undefined {
  try {
    decodeSuperblock(image);
    return undefined;
  } catch (error) {
    if (error instanceof ErofsError) return error.code;
    throw error;
  }
}

describe("crc32c", () => {
  // RFC 3720 appendix B.4, where the register is inverted at the end.
  test.each([
    ["32 zeros", new Uint8Array(32), 0x8a9136aa],
    ["32 ones", new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ["0..31", new Uint8Array(32).map((_, index) => index), 0x46dd794e],
  ])("of %s", (_, bytes, expected) => {
    expect((crc32c(0xffffffff, bytes) ^ 0xffffffff) >>> 0).toBe(expected);
  });
});

describe("decodeSuperblock", () => {
  test("gives every field", () => {
    expect(decodeSuperblock(tinyImage({ checksum: true }))).toMatchObject({
      blockSize: BLOCK,
      inodes: 8n,
      blocks: 10,
      rootNid: 0n,
      packedNid: 0n,
      metaBlock: 3,
      xattrBlock: 6,
      buildTime: 1_700_000_000n,
      uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f",
      volumeName: "tiny",
      compatFeatures: ["sb_chksum"],
      incompatFeatures: ["zero_padding", "chunked_file"],
    });
  });

  test.each([
    ["the magic", 0, 0, "EROFS_BAD_MAGIC"],
    ["a block size of 2^8", 12, 8, "EROFS_UNSUPPORTED"],
    ["a block size of 2^17", 12, 17, "EROFS_UNSUPPORTED"],
    ["an unknown feature", 83, 0x80, "EROFS_UNSUPPORTED"],
    ["directory blocks of two blocks", 90, 1, "EROFS_UNSUPPORTED"],
    ["extension slots beyond the block", 13, 255, "EROFS_CORRUPT"],
  ])("refuses %s", (_, offset, value, code) => {
    const image = tinyImage();
    image[1024 + offset] = value;
    expect(codeOf(image)).toBe(code);
  });

  test("names the feature it cannot read", () => {
    const image = tinyImage();
    image[1024 + 81] = 2;
    expect(() => decodeSuperblock(image)).toThrow(/0x200/);
  });

  test("refuses a metadata box that it has no room for, or that is a part of itself", () => {
    const image = tinyImage();
    image[1024 + 81] = 1;
    expect(codeOf(image)).toBe("EROFS_CORRUPT");
    image[1024 + 13] = 1;
    expect(decodeSuperblock(image).metaboxNid).toBe(0n);
    image[1024 + 135] = 0x80;
    expect(codeOf(image)).toBe("EROFS_CORRUPT");
  });

  test("finds every flipped byte that the checksum covers", () => {
    const image = tinyImage({ checksum: true });
    for (let at = 1024; at < 1024 + BLOCK; at += 1) {
      const flipped = image.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      // The bit that says whether there is a checksum can itself be cleared by nothing but a flip of bit 0.
      expect(codeOf(flipped), `byte ${at}`).toBeDefined();
    }
  });

  test("asks for the bytes the checksum covers", () => {
    const image = tinyImage({ checksum: true });
    for (const length of [0, 1, 1024, 1151, 1152, 1535])
      expect(codeOf(image.subarray(0, length))).toBe("EROFS_TRUNCATED");
    expect(codeOf(image.subarray(0, 1536))).toBeUndefined();
  });
});
