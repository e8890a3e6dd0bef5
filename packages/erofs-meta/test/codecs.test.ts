import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { decodeMicroLzma } from "../src/codecs/micro-lzma-decode.ts";
import { decodeZstd } from "../src/codecs/zstd/decode.ts";
import { ErofsError, memorySource, openErofs } from "../src/index.ts";
import { noise } from "./support.ts";
import { FIXTURE_FILES } from "./trees.ts";

type Decode = (input: Uint8Array, output: Uint8Array, offset: number) => void;

const IMAGES: readonly [string, Decode][] = [
  ["lzma", decodeMicroLzma],
  ["zstd", decodeZstd],
  ["zstd-fast", decodeZstd],
];

function fixture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`fixtures/${name}.erofs`, import.meta.url)));
}

/** The stored extents of an image, without the zeros in front of them. */
async function storedExtents(name: string): Promise<{ stored: Uint8Array; content: Uint8Array }[]> {
  const bytes = fixture(name);
  const image = await openErofs(memorySource(bytes));
  const found = [];
  for (const [path, content] of Object.entries(FIXTURE_FILES)) {
    for await (const { start, length, position = 0, stored } of image.extents(await image.lookup(path))) {
      if (stored === undefined || stored.encoding === "none") continue;
      const padded = bytes.subarray(position, position + stored.length);
      found.push({
        stored: padded.subarray(padded.findIndex((byte) => byte !== 0)),
        content: content.subarray(start, start + length),
      });
    }
  }
  return found;
}

function attempt(decode: Decode, stored: Uint8Array, length: number): boolean {
  try {
    decode(stored, new Uint8Array(length), 0);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(ErofsError);
    return false;
  }
}

describe.each(IMAGES)("%s content", (name, decode) => {
  test("of an image by mkfs.erofs is read as it was", async () => {
    const image = await openErofs(memorySource(fixture(name)));
    for (const [path, content] of Object.entries(FIXTURE_FILES)) {
      expect(Buffer.compare(await image.readFile(await image.lookup(path)), content), path).toBe(0);
    }
  });

  test("is decoded as far as is asked for", async () => {
    for (const { stored, content } of await storedExtents(name)) {
      for (const length of [0, 1, 2, 100, content.byteLength >> 1, content.byteLength - 1, content.byteLength]) {
        const output = new Uint8Array(length);
        decode(stored, output, 0);
        expect(Buffer.compare(output, content.subarray(0, length))).toBe(0);
      }
    }
  });

  test("gives bytes or a typed error for every truncation and flipped bit", async () => {
    for (const { stored, content } of await storedExtents(name)) {
      const step = Math.max(1, Math.floor(stored.byteLength / 300));
      for (let length = 0; length < stored.byteLength; length += step) {
        const isDecoded = attempt(decode, stored.subarray(0, length), content.byteLength);
        if (name !== "lzma") expect(isDecoded).toBe(false);
      }
      for (let at = 0; at < stored.byteLength; at += at < 64 ? 1 : step) {
        const flipped = stored.slice();
        flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
        attempt(decode, flipped, content.byteLength);
      }
      expect(() => decode(stored, new Uint8Array(content.byteLength + 2 ** 20), 0)).toThrow(ErofsError);
    }
  });

  test("of noise gives bytes or a typed error", () => {
    for (let seed = 1; seed < 500; seed += 1) {
      const bytes = noise(200, seed);
      if (name !== "lzma") bytes.set([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0xff]);
      else bytes[0] = 0xff - 0x5d;
      attempt(decode, bytes, 5000);
    }
  });
});

describe("zstd frames", () => {
  const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];
  const decoded = (frame: readonly number[], length: number): Uint8Array => {
    const output = new Uint8Array(length);
    decodeZstd(Uint8Array.from(frame), output, 0);
    return output;
  };

  test("of raw and of repeated bytes are decoded", () => {
    // Two blocks: three bytes as they are, then 258 times the same one.
    const frame = [...MAGIC, 0x60, 0x05, 0x00, 3 << 3, 0, 0, 1, 2, 3, 1 | 2 | ((258 << 3) & 0xff), 258 >> 5, 0, 9];
    expect(decoded(frame, 261)).toEqual(Uint8Array.from([1, 2, 3, ...Array.from({ length: 258 }, () => 9)]));
  });

  test.each<[string, number[]]>([
    ["no frame", [1, 2, 3, 4, 5, 6, 7]],
    ["a reserved bit", [...MAGIC, 0x28, 3, 1, 0, 0]],
    ["a dictionary", [...MAGIC, 0x21, 7, 3, 1, 0, 0]],
    ["a block of no known type", [...MAGIC, 0x20, 3, 7, 0, 0]],
    ["a block larger than blocks are", [...MAGIC, 0x20, 3, 3, 0, 0x20, 1]],
    ["a frame that ends too early", [...MAGIC, 0x20, 3, 1, 0, 0]],
    ["a block without sequences that says it has some", [...MAGIC, 0x20, 3, 1 | 4 | (3 << 3), 0, 0, 0, 1, 0]],
    ["literals of a tree there is none of", [...MAGIC, 0x20, 3, 1 | 4 | (5 << 3), 0, 0, 3, 0, 0, 0, 0]],
  ])("with %s are refused", (_, frame) => {
    expect(() => decoded(frame, 3)).toThrowError(expect.objectContaining({ code: "EROFS_CORRUPT" }));
  });
});
