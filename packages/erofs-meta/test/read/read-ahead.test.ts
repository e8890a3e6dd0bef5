import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { BlockSource } from "../../src/block-source.ts";
import { finish } from "../../src/internal/steps.ts";
import { ContentReader } from "../../src/read/read-ahead.ts";
import { noise } from "../support.ts";

const BYTES = noise(6_000_000);

/** A file, or something farther away, that counts what is asked of it. */
function countingSource(isNear: boolean): BlockSource & { readonly reads: number[] } {
  const reads: number[] = [];
  const readIntoSync = (target: Uint8Array, offset: number): void => {
    reads.push(target.byteLength);
    target.set(BYTES.subarray(offset, offset + target.byteLength));
  };
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    await setImmediate();
    const bytes = new Uint8Array(length);
    readIntoSync(bytes, offset);
    return bytes;
  };
  const readInto = async (target: Uint8Array, offset: number): Promise<void> => {
    await setImmediate();
    readIntoSync(target, offset);
  };
  return { reads, sizeBytes: BYTES.byteLength, read, ...(isNear && { readInto, readIntoSync }), async close() {} };
}

/** Reads forward in steps of many sizes, now and then something elsewhere, and compares. */
async function readForward(reader: ContentReader, seed: number): Promise<void> {
  const random = noise(4000, seed);
  let at = seed * 1000;
  for (let index = 0; index + 3 < random.byteLength && at < BYTES.byteLength; index += 4) {
    const [skip = 0, size = 0, scale = 0, kind = 0] = random.subarray(index, index + 4);
    const isStray = kind < 30;
    const offset = isStray ? (skip * 20_011) % 5_000_000 : at + skip * 8;
    const length = Math.min(1 + size * (scale < 20 ? 4000 : 90), BYTES.byteLength - offset);
    if (length <= 0) return;
    const bytes =
      kind % 2 === 0 ? await finish(reader.view(offset, length)) : await finish(reader.some(offset, length, false));
    if (Buffer.compare(bytes, BYTES.subarray(offset, offset + bytes.byteLength)) !== 0) {
      throw new Error(`expected what is at ${offset}, ${length} bytes of it, got something else`);
    }
    if (!isStray) at = offset + bytes.byteLength;
  }
}

describe.each([
  ["near", true],
  ["far", false],
])("ContentReader of a source that is %s", (_, isNear) => {
  test("gives what is there, whichever way it is read", async () => {
    for (let seed = 1; seed < 12; seed += 1) await readForward(new ContentReader(countingSource(isNear)), seed);
  });

  test("gives what is there to several who read at the same time", async () => {
    const reader = new ContentReader(countingSource(isNear));
    await Promise.all([1, 2, 3, 4].map((seed) => readForward(reader, seed)));
  });

  test("reads little here and there, and much going forward, where one read elsewhere does not matter", async () => {
    const source = countingSource(isNear);
    const reader = new ContentReader(source);
    for (let at = 5_000_000; at > 0; at -= 500_000) await finish(reader.view(at, 100));
    expect(source.reads).toEqual(Array.from({ length: 10 }, () => 100));
    for (let at = 0; at + 4000 < BYTES.byteLength; at += 4000) {
      await finish(reader.view(at, 4000));
      if (at % 400_000 === 0) await finish(reader.view(BYTES.byteLength - 1 - at, 1));
    }
    const large = source.reads.filter((length) => length > 60_000);
    expect(large.length).toBeLessThan(15);
    expect(source.reads.length - large.length).toBeLessThan(40);
  });

  test("refuses what is behind the end", async () => {
    const reader = new ContentReader(countingSource(isNear));
    await expect(finish(reader.view(BYTES.byteLength - 10, 11))).rejects.toMatchObject({ code: "EROFS_TRUNCATED" });
  });
});

test("a window that could not be read ahead is read again", async () => {
  const source = countingSource(true);
  let calls = 0;
  const readInto = source.readInto?.bind(source);
  const flaky: BlockSource = {
    ...source,
    async readInto(target, offset) {
      calls += 1;
      // The first two are asked for.
      if (calls === 3) throw new Error("not now");
      await readInto?.(target, offset);
    },
  };
  const reader = new ContentReader(flaky);
  for (let at = 0; at + 50_000 < BYTES.byteLength; at += 50_000) {
    const bytes = await finish(reader.view(at, 50_000));
    expect(Buffer.compare(bytes, BYTES.subarray(at, at + 50_000))).toBe(0);
  }
  expect(calls).toBeGreaterThan(4);
});
