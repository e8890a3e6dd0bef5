import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { divide, multiply, powerOfTwo } from "../../src/fec/galois-field.ts";
import { CODEWORD_SIZE, correct, ParityEncoder } from "../../src/fec/reed-solomon.ts";
import { noise } from "../support.ts";

function codeword(data: Uint8Array, roots: number): Uint8Array {
  const whole = new Uint8Array(CODEWORD_SIZE);
  whole.set(data);
  whole.set(new ParityEncoder(roots).encode(data, 1), data.byteLength);
  return whole;
}

describe("the field of 256 elements", () => {
  test("has the products that shifting and reducing give", () => {
    const slow = (a: number, b: number): number => {
      let product = 0;
      for (let bit = 7; bit >= 0; bit -= 1) {
        product <<= 1;
        if (product > 255) product ^= 0x11d;
        if (((b >> bit) & 1) === 1) product ^= a;
      }
      return product;
    };
    const wrong: string[] = [];
    for (let a = 0; a < 256; a += 1) {
      for (let b = 0; b < 256; b += 1) {
        if (multiply(a, b) !== slow(a, b)) wrong.push(`${a} * ${b}`);
        if (b !== 0 && divide(multiply(a, b), b) !== a) wrong.push(`${a} / ${b}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(powerOfTwo(-1)).toBe(divide(1, 2));
  });
});

describe.each([2, 3, 8, 24])("a code with %i symbols of parity", (roots) => {
  test("corrects as many erasures and errors as there is parity for", () => {
    const wrong = fc.uniqueArray(fc.record({ at: fc.nat(254), value: fc.integer({ min: 1, max: 255 }) }), {
      maxLength: roots,
      selector: ({ at }) => at,
    });
    fc.assert(
      fc.property(fc.nat(1000), wrong, fc.nat(roots), (seed, places, known) => {
        const good = codeword(noise(CODEWORD_SIZE - roots, seed), roots);
        const erasures = places.slice(0, known).map(({ at }) => at);
        const unknown = places.slice(known, known + Math.floor((roots - erasures.length) / 2));
        const received = Uint8Array.from(good);
        const spoiled = [...places.slice(0, known), ...unknown];
        for (const { at, value } of spoiled) received[at] = (received[at] ?? 0) ^ value;
        expect(correct(received, roots, erasures)).toBe(spoiled.length);
        expect(received).toEqual(good);
      }),
    );
  });

  test("never makes a wrong codeword of too many errors, and leaves what it cannot correct", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: CODEWORD_SIZE, maxLength: CODEWORD_SIZE }), (received) => {
        const before = Uint8Array.from(received);
        const changed = correct(received, roots, []);
        if (changed === undefined) expect(received).toEqual(before);
        else expect(codeword(received.subarray(0, CODEWORD_SIZE - roots), roots)).toEqual(received);
      }),
    );
  });

  test("leaves a right codeword, also one that is said to be wrong", () => {
    const good = codeword(noise(CODEWORD_SIZE - roots), roots);
    expect(correct(Uint8Array.from(good), roots, [])).toBe(0);
    expect(correct(Uint8Array.from(good), roots, [0, 254])).toBe(0);
    const received = Uint8Array.from(good);
    received[7] = (received[7] ?? 0) ^ 1;
    expect(correct(received, roots, [7, 254])).toBe(1);
    expect(received).toEqual(good);
    expect(
      correct(
        received.fill(1, 0, 100),
        roots,
        Array.from({ length: roots + 1 }, (_, at) => at),
      ),
    ).toBeUndefined();
  });
});
