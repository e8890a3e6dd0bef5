import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Bytes, partOf, readBytes, sizeOf } from "../../src/bytes/byte-source.ts";
import { JoinedBytes, type PlacedBytes, patchBytes } from "../../src/bytes/joined.ts";

/** A source over bytes, as a file is one, that counts what is read of it. */
function source(bytes: Uint8Array): Bytes & { reads: number } {
  return {
    sizeBytes: bytes.length,
    reads: 0,
    readIntoSync(target, offset) {
      this.reads += target.length;
      if (offset + target.length > bytes.length) throw new Error("a read beyond the end");
      target.set(bytes.subarray(offset, offset + target.length));
    },
  };
}

describe("joined bytes", () => {
  const pieces = fc.array(fc.record({ gap: fc.nat(5), data: fc.uint8Array({ maxLength: 20 }), file: fc.boolean() }));

  test("read as if they had been put together, wherever one begins", () => {
    fc.assert(
      fc.property(pieces, fc.nat(9), fc.nat(300), fc.nat(300), (list, tail, from, length) => {
        const parts: PlacedBytes[] = [];
        let offset = 0;
        for (const { gap, data, file } of list) {
          parts.push({ offset: offset + gap, bytes: file ? source(data) : data });
          offset += gap + data.length;
        }
        const whole = new Uint8Array(offset + tail);
        for (const part of parts) whole.set(readBytes(part.bytes), part.offset);
        const joined = new JoinedBytes(parts, whole.length);
        const nested = new JoinedBytes([{ offset: 3, bytes: joined }], whole.length + 3);
        const start = Math.min(from, whole.length);
        const size = Math.min(length, whole.length - start);
        expect(readBytes(joined, start, size)).toEqual(whole.slice(start, start + size));
        expect(readBytes(nested, start + 3, size)).toEqual(whole.slice(start, start + size));
        expect(nested.parts.every(({ bytes }) => !(bytes instanceof JoinedBytes))).toBe(true);
      }),
    );
  });

  test("are read where they are asked for, and nowhere else", () => {
    const file = source(new Uint8Array(1000));
    const joined = new JoinedBytes([{ offset: 10, bytes: file }], 2000);
    readBytes(joined, 0, 15);
    expect(file.reads).toBe(5);
    expect(() => readBytes(joined, 1990, 11)).toThrow("bug: a read beyond joined bytes");
  });

  test("can have patches in place of some of them", () => {
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6);
    const patches = [
      { offset: 1, bytes: Uint8Array.of(20) },
      { offset: 4, bytes: Uint8Array.of(50, 60) },
    ];
    for (const image of [bytes, source(bytes)]) {
      expect(readBytes(new JoinedBytes(patchBytes(image, 6, patches), 6))).toEqual(Uint8Array.of(1, 20, 3, 4, 50, 60));
    }
  });
});

test("a part of a source stays inside of it", () => {
  const part = partOf(source(Uint8Array.of(1, 2, 3, 4)), 1, 2);
  expect([sizeOf(part), ...readBytes(part)]).toEqual([2, 2, 3]);
  expect(() => readBytes(part, 1, 2)).toThrow("bug: a read beyond a part");
});
