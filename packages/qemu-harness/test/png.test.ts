import { encode } from "fast-png";
import { expect, test } from "vitest";
import { decodePng, encodePng, type Picture } from "../src/vitest/png.ts";
import { compare } from "../src/vitest/screenshot.ts";

const picture: Picture = { width: 3, height: 2, pixels: Uint8Array.from({ length: 18 }, (_, index) => index * 14) };

test("a picture comes back as it was", () => {
  const bytes = encodePng(picture);
  expect(decodePng(bytes, "here")).toEqual(picture);
  expect(encodePng(decodePng(bytes, "here"))).toEqual(bytes);
});

test("a file that was cut or changed is refused or read, and nothing else", () => {
  const bytes = encodePng(picture);
  const attempt = (file: Uint8Array): void => {
    try {
      expect(decodePng(file, "here").pixels).toHaveLength(18);
    } catch (error) {
      expect(error).toMatchObject({ code: "QEMU_FILE", path: "here" });
    }
  };
  for (let length = 0; length < bytes.length; length += 1) attempt(bytes.subarray(0, length));
  for (const index of bytes.keys()) {
    // A side of a picture may be another one and still fit.
    if (index >= 16 && index < 24) continue;
    for (const bit of [1, 128]) attempt(bytes.map((byte, at) => (at === index ? byte ^ bit : byte)));
  }
});

test("transparency is left out, and what is not 8-bit RGB is refused", () => {
  const data = Uint8Array.from({ length: 24 }, (_, index) => (index % 4 === 3 ? 128 : Math.floor(index / 4) * 42));
  expect(decodePng(encode({ width: 3, height: 2, data, channels: 4 }), "here").pixels).toEqual(
    data.filter((_, index) => index % 4 !== 3),
  );
  const others = [
    encode({ width: 3, height: 2, data: new Uint8Array(6), channels: 1 }),
    encode({ width: 3, height: 2, data: new Uint16Array(18), channels: 3, depth: 16 }),
  ];
  for (const other of others) expect(() => decodePng(other, "here")).toThrow(/expected a PNG picture of 8-bit RGB/);
});

test("what differs is counted, with a threshold and without what does not matter", () => {
  const other = { ...picture, pixels: picture.pixels.map((byte, index) => (index === 4 ? byte + 20 : byte)) };
  const share = (threshold: number, ignore: Parameters<typeof compare>[2]["ignore"] = []): number =>
    compare(picture, other, { threshold, ignore }).share;
  expect(share(16)).toBeCloseTo(1 / 6);
  expect(share(20)).toBe(0);
  expect(share(0, [{ x: 1, y: 0, width: 100, height: 1 }])).toBe(0);
  expect(share(0, [{ x: 2, y: 0, width: 1, height: 100 }])).toBeCloseTo(1 / 6);
  const marked = compare(picture, other, { threshold: 0, ignore: [] }).picture?.pixels;
  expect(marked?.subarray(3, 6)).toEqual(Uint8Array.of(255, 0, 80));
  expect(compare(picture, { ...picture, width: 2 }, { threshold: 0, ignore: [] })).toMatchObject({
    share: 1,
    what: "2 by 2 pixels instead of 3 by 2",
  });
});
