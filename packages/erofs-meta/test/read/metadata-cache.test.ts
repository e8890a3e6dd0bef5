import { randomFillSync } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { memorySource } from "../../src/block-source.ts";
import { MetadataCache } from "../../src/read/metadata-cache.ts";

// More than the cache holds, and no whole number of its windows.
const image = randomFillSync(new Uint8Array(17 * 1024 * 1024 + 77));

/** A cache, and the ranges that it reads. */
function watched(): { cache: MetadataCache; reads: [offset: number, length: number][] } {
  const reads: [number, number][] = [];
  const source = memorySource(image);
  const cache = new MetadataCache({
    ...source,
    readIntoSync(target: Uint8Array, offset: number) {
      reads.push([offset, target.byteLength]);
      source.readIntoSync?.(target, offset);
    },
  });
  return { cache, reads };
}

function assertFound(cache: MetadataCache, offset: number, length: number): void {
  const at = cache.find(offset, length);
  expect(at).toBeGreaterThanOrEqual(0);
  expect(cache.bytes.compare(image, offset, offset + length, at, at + length), `${length} bytes at ${offset}`).toBe(0);
}

test("what is found is what the image has there, in whatever order it is looked for", () => {
  const { cache } = watched();
  const step = fc.record({
    offset: fc.integer({ min: 0, max: image.byteLength - 1 }),
    length: fc.integer({ min: 1, max: cache.maxFound }),
    // A step backwards lands where a burst has just replaced others.
    onwards: fc.array(fc.integer({ min: -3, max: 40 }), { maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 10 }), (steps) => {
      for (const { offset, length, onwards } of steps) {
        let at = offset;
        for (const windows of [0, ...onwards]) {
          at = Math.max(0, Math.min(at + windows * cache.maxFound, image.byteLength - length));
          assertFound(cache, at, length);
        }
      }
    }),
    { numRuns: 30 },
  );
});

test("what is looked for in order is read in pieces of up to 64 KiB, each byte once", () => {
  const { cache, reads } = watched();
  for (let at = 0; at + 64 <= image.byteLength; at += 2048) assertFound(cache, at, 64);
  expect(Math.max(...reads.map(([, length]) => length))).toBe(64 * 1024);
  expect(reads.length).toBeLessThan(300);
  expect(reads.reduce((sum, [, length]) => sum + length, 0)).toBe(image.byteLength);
});

test("what is looked for here and there is read in pieces of 4 KiB", () => {
  const { cache, reads } = watched();
  for (let at = 0; at < image.byteLength - 64; at += 49_152) assertFound(cache, at, 32);
  expect(new Set(reads.map(([, length]) => length))).toEqual(new Set([4096]));
});
