import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { QemuError } from "../src/index.ts";
import { chordsOf } from "../src/screen/keys.ts";
import { decodePpm, forReading } from "../src/screen/picture.ts";

describe("typing", () => {
  test("finds the keys of every printable character", () => {
    const printable = Array.from({ length: 95 }, (_, index) => String.fromCharCode(0x20 + index)).join("");
    const chords = chordsOf(printable);
    expect(new Set(chords.map((chord) => chord.join("+"))).size).toBe(95);
    expect(chordsOf("aZ?\n")).toEqual([["a"], ["shift", "z"], ["shift", "slash"], ["ret"]]);
  });

  test.each(["ü", "\0", "€", "constructor\u2028"])("refuses %j before it types anything", (text) => {
    expect(() => chordsOf(text)).toThrow(QemuError);
  });
});

function ppm(width: number, height: number, ...pixels: number[]): Uint8Array {
  return Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), Buffer.from(pixels)]);
}

describe("a picture", () => {
  test("is read in grey, and made dark on light and large", async () => {
    const picture = decodePpm(ppm(2, 1, 0, 0, 0, 255, 255, 255));
    expect(picture).toEqual({ width: 2, height: 1, pixels: Uint8Array.of(0, 255) });
    const file = await forReading(decodePpm(ppm(2, 1, 0, 0, 0, 100, 100, 100)));
    expect([...file.subarray(-8)]).toEqual([255, 230, 180, 155, 255, 230, 180, 155]);
    expect(Buffer.from(file.subarray(0, -8)).toString("latin1")).toBe("P5\n4 2\n255\n");
    expect([...(await forReading(decodePpm(ppm(1, 1, 200, 200, 200)))).subarray(-4)]).toEqual([200, 200, 200, 200]);
  });

  test("that is none is a typed error", () => {
    const whole = ppm(2, 2, ...new Uint8Array(12));
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => decodePpm(whole.subarray(0, length))).toThrow(QemuError);
    }
    expect(() => decodePpm(Buffer.from("P6\n99999 99999\n255\n"))).toThrow(QemuError);
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(() => decodePpm(bytes)).toThrow(QemuError);
      }),
    );
  });
});
