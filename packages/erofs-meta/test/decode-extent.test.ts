import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { Lz4Decoder } from "../src/codecs/lz4-wasm.ts";
import { ErofsError } from "../src/errors.ts";
import type { Encoding, StoredExtent } from "../src/read/compressed-map.ts";
import { decodeExtent } from "../src/read/decode-extent.ts";
import { noise } from "./support.ts";

const CONTEXT = { blockSize: 512, isZeroPadded: true, lz4: new Lz4Decoder() };

function decode(encoding: Encoding, stored: Uint8Array, length: number, start = 0): Uint8Array {
  const output = new Uint8Array(length);
  const extent: StoredExtent = {
    ...{ start, length, encoding, position: 4096, where: "image" },
    storedLength: stored.byteLength,
  };
  decodeExtent(extent, stored, output, CONTEXT);
  return output;
}

/** Stored extents are filled up in front. */
function padded(bytes: Uint8Array): Uint8Array {
  const block = new Uint8Array(Math.ceil(bytes.byteLength / 512) * 512);
  block.set(bytes, block.byteLength - bytes.byteLength);
  return block;
}

const CONTENT = new TextEncoder().encode("the same line again\n".repeat(90));

describe("decodeExtent", () => {
  test.each([CONTENT.byteLength, 700, 1])("decodes %i bytes of deflate", (length) => {
    expect(decode("deflate", padded(deflateRawSync(CONTENT)), length)).toEqual(CONTENT.slice(0, length));
  });

  test("takes uncompressed bytes as they are", () => {
    expect(decode("none", noise(512), 100)).toEqual(noise(512).slice(0, 100));
  });

  test("turns interlaced bytes back", () => {
    const content = noise(512);
    const stored = Uint8Array.from([...content.slice(412), ...content.slice(0, 412)]);
    expect(decode("interlaced", stored, 512, 1024 + 100)).toEqual(content);
    expect(decode("interlaced", stored, 50, 1024 + 100)).toEqual(content.slice(0, 50));
  });

  test.each<[Encoding, string]>([
    ["lzma", "EROFS_CORRUPT"],
    ["zstd", "EROFS_CORRUPT"],
    ["none", "EROFS_CORRUPT"],
    ["interlaced", "EROFS_CORRUPT"],
    ["lz4", "EROFS_CORRUPT"],
    ["deflate", "EROFS_CORRUPT"],
  ])("refuses what is not %s, or cannot be, with %s", (encoding, code) => {
    expect(() => decode(encoding, new Uint8Array(512), 600)).toThrowError(expect.objectContaining({ code }));
  });

  test("of every truncation and flipped byte of deflate gives bytes or a typed error", () => {
    const stored = padded(deflateRawSync(CONTENT));
    const attempt = (bytes: Uint8Array): void => {
      try {
        decode("deflate", bytes, CONTENT.byteLength);
      } catch (error) {
        if (!(error instanceof ErofsError)) throw error;
      }
    };
    for (let length = 0; length < stored.byteLength; length += 1) attempt(stored.subarray(0, length));
    for (let at = 0; at < stored.byteLength; at += 1) {
      const flipped = stored.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0xff;
      attempt(flipped);
    }
  });
});
