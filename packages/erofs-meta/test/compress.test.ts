import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeLz4 } from "../src/codecs/lz4-decode.ts";
import { compileLz4Encoder } from "../src/codecs/lz4-encode-wasm.ts";
import { lz4Encoder } from "../src/codecs/lz4-encoder.js";
import {
  type CompressionOptions,
  ErofsError,
  memorySource,
  openErofs,
  type TreeEntry,
  writeErofs,
} from "../src/index.ts";
import { compressibleTree, describeTree, imageSink, mixedContent } from "./trees.ts";

const FIXED = { uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 0n } as const;
const KINDS: readonly CompressionOptions[] = [
  { algorithm: "lz4" },
  { algorithm: "lz4", clusterSize: 8192 },
  { algorithm: "lz4", clusterSize: 262_144 },
  { algorithm: "deflate" },
  { algorithm: "deflate", level: 1, clusterSize: 4096 },
];

async function written(
  entries: readonly TreeEntry[],
  options: { readonly compression?: CompressionOptions; readonly workers?: number; readonly maxTailBytes?: number },
): Promise<Uint8Array> {
  const output = imageSink();
  await writeErofs(entries, { output, ...FIXED, workers: 0, ...options });
  return output.bytes();
}

describe("encodeLz4", () => {
  const module = compileLz4Encoder();

  /** Encodes piece by piece, as extents are, both ways, which have to agree, and checks each piece by decoding it. */
  function roundTrip(content: Uint8Array, room: number): number {
    expect(module).toBeDefined();
    const [fast, plain] = [lz4Encoder(module, room), lz4Encoder(undefined, room)];
    fast.begin(content);
    plain.begin(content);
    let pieces = 0;
    for (let at = 0; at < content.byteLength; pieces += 1) {
      const output = new Uint8Array(room);
      const { consumed, length } = plain.encode(at, content.byteLength, output);
      expect(length).toBeLessThanOrEqual(room);
      expect(consumed).toBeGreaterThan(0);
      const decoded = new Uint8Array(consumed);
      decodeLz4(output.subarray(0, length), decoded, 0);
      expect(Buffer.compare(decoded, content.subarray(at, at + consumed))).toBe(0);
      const other = new Uint8Array(room);
      expect(fast.encode(at, content.byteLength, other)).toEqual({ consumed, length });
      expect(Buffer.compare(other.subarray(0, length), output.subarray(0, length))).toBe(0);
      at += consumed;
    }
    return pieces;
  }

  test("fills outputs of any size with what decodes to the input", () => {
    const run = fc.property(
      fc.integer({ min: 1, max: 30_000 }),
      fc.nat(),
      fc.integer({ min: 16, max: 9000 }),
      (size, seed, room) => {
        roundTrip(mixedContent(size, seed), room);
      },
    );
    fc.assert(run, { numRuns: 150 });
  });

  test("puts a long run of zeros into few bytes", () => {
    expect(roundTrip(new Uint8Array(900_000), 4096)).toBe(1);
  });

  test("ends a block as the format demands: five literals, and no match that starts in the last twelve bytes", () => {
    const content = new Uint8Array(2000);
    const output = new Uint8Array(4096);
    const encoder = lz4Encoder(module, 4096);
    encoder.begin(content);
    const { length } = encoder.encode(0, 2000, output);
    const token = output[length - 6] ?? 0;
    expect([token >>> 4, token & 15]).toEqual([5, 0]);
  });
});

describe("writeErofs with compression", () => {
  test.each(KINDS)("of %o writes what the reader reads", async (compression) => {
    const entries = compressibleTree();
    const plain = await describeTree(await openErofs(memorySource(await written(entries, {}))));
    for (const maxTailBytes of [2 ** 20, 0]) {
      const bytes = await written(entries, { compression, maxTailBytes });
      const image = await openErofs(memorySource(bytes));
      expect(await describeTree(image)).toEqual(plain);
      expect((await image.lookup("/text/300001")).layout).toBe("compressed-compact");
      expect((await image.lookup("/noise/100000")).layout).toMatch(/inline|plain/);
      expect(bytes.byteLength).toBeLessThan(4_000_000);
    }
  });

  test("gives the same bytes with any number of threads", async () => {
    const compression = { algorithm: "lz4", clusterSize: 65_536 } as const;
    const alone = await written(compressibleTree(), { compression });
    for (const workers of [1, 3]) {
      expect(Buffer.compare(await written(compressibleTree(), { compression, workers }), alone)).toBe(0);
    }
  });

  test.each<[string, CompressionOptions, number | undefined]>([
    ["a cluster that is no power of two", { algorithm: "lz4", clusterSize: 5000 }, undefined],
    ["a cluster of 2 MiB", { algorithm: "lz4", clusterSize: 2 ** 21 }, undefined],
    ["a level that zlib does not have", { algorithm: "deflate", level: 10 }, undefined],
    ["blocks that Linux does not decode", { algorithm: "lz4" }, 512],
  ])("refuses %s", async (_, compression, blockSize) => {
    const error = await writeErofs([], { output: imageSink(), ...FIXED, compression, blockSize }).catch(
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(ErofsError);
    expect(error).toMatchObject({ code: "EROFS_BAD_OPTIONS" });
  });

  test("ends its threads when content is not as long as it says", async () => {
    const content = {
      sizeBytes: 10,
      async *read() {
        yield new Uint8Array(9);
      },
    };
    const entries = [...compressibleTree(), { type: "file", path: "/short", content } as const];
    const failing = written(entries, { compression: { algorithm: "lz4" }, workers: 2 });
    await expect(failing).rejects.toMatchObject({ code: "EROFS_BAD_TREE", path: "/short" });
  });
});
