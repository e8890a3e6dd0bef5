import { describe, expect, test } from "vitest";
import { decodeLz4 } from "../src/codecs/lz4-decode.ts";
import { Lz4Decoder } from "../src/codecs/lz4-wasm.ts";
import { ErofsError } from "../src/errors.ts";
import { MAX_DECODED_EXTENT_SIZE } from "../src/format/compression.ts";
import { noise } from "./support.ts";

const decoder = new Lz4Decoder();

/** Decodes with the fast decoder, into its memory and out of it, and with the one that explains; they have to agree. */
function decode(input: readonly number[] | Uint8Array, length: number): string {
  const output = new Uint8Array(length);
  const kept = decoder.memory(length);
  if (kept === undefined) throw new Error("expected memory of the decoder's");
  const isKept = decoder.decode(Uint8Array.from(input), kept);
  const fast = new Uint8Array(length);
  const isDecoded = decoder.decode(Uint8Array.from(input), fast);
  expect(isKept).toBe(isDecoded);
  try {
    decodeLz4(Uint8Array.from(input), output, 0);
  } catch (error) {
    expect(isDecoded).toBe(false);
    throw error;
  }
  expect(isDecoded).toBe(true);
  expect(Buffer.compare(fast, output)).toBe(0);
  expect(Buffer.compare(kept, output)).toBe(0);
  return new TextDecoder("latin1").decode(output);
}

const codes = (text: string): number[] => [...new TextEncoder().encode(text)];

test("memory to decode into is one decoder's until it lets go of it", () => {
  const [one, other] = [new Lz4Decoder(), new Lz4Decoder()];
  decoder.release();
  expect(one.memory(8)?.byteLength).toBe(8);
  expect(other.memory(8)).toBeUndefined();
  other.release();
  expect(other.memory(8)).toBeUndefined();
  one.release();
  expect(other.memory(8)?.byteLength).toBe(8);
  other.release();
  expect(one.memory(MAX_DECODED_EXTENT_SIZE + 1)).toBeUndefined();
  one.release();
});

describe("decodeLz4", () => {
  test.each<[string, number[], string]>([
    ["literals only", [0x50, ...codes("hello")], "hello"],
    ["a match", [0x42, ...codes("abcd"), 4, 0, 0x50, ...codes("vwxyz")], "abcdabcdabvwxyz"],
    ["a match that overlaps itself", [0x2f, ...codes("ab"), 2, 0, 0, 0x10, ...codes("z")], `${"ab".repeat(10)}az`],
    ["a run of one byte", [0x1f, ...codes("r"), 1, 0, 100, 0x10, ...codes("z")], `${"r".repeat(120)}z`],
    ["a long literal", [0xf0, 255, 30, ...codes("y".repeat(300))], "y".repeat(300)],
    ["a long copy", [0xf0, 35, ...codes("0123456789".repeat(5)), 50, 0, 0x00], `${"0123456789".repeat(5)}0123`],
  ])("decodes %s", (_, input, expected) => {
    expect(decode(input, expected.length)).toBe(expected);
  });

  test("stops when the output is full", () => {
    expect(decode([0x42, ...codes("abcd"), 4, 0, 0x50, ...codes("vwxyz")], 6)).toBe("abcdab");
    expect(decode([0x42, ...codes("abcd"), 4, 0, 0x50, ...codes("vwxyz")], 3)).toBe("abc");
    expect(decode([], 0)).toBe("");
  });

  test.each<[string, number[]]>([
    ["no input", []],
    ["literals that end early", [0x50, 0x61]],
    ["a length that does not end", [0xf0, 255, 255]],
    ["a match without a distance", [0x10, 0x61, 1]],
    ["a distance of 0", [0x10, 0x61, 0, 0]],
    ["a distance before the start", [0x10, 0x61, 2, 0, 0]],
    ["a match length that does not end", [0x1f, 0x61, 1, 0]],
  ])("refuses %s", (_, input) => {
    expect(() => decode(input, 400)).toThrowError(expect.objectContaining({ code: "EROFS_CORRUPT" }));
  });

  test.each([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31])("repeats what is %i bytes back", (distance) => {
    const start = noise(40);
    for (const length of [4, 7, 8, 15, 16, 18, 33, 250]) {
      const rest = length < 19 ? [] : [length - 19];
      const input = [0xf0 | Math.min(15, length - 4), 25, ...start, distance, 0, ...rest, 0x10, 0x7a];
      const expected = [...start];
      for (let left = length; left > 0; left -= 1) expected.push(expected.at(-distance) ?? 0);
      expect(decode(input, 41 + length)).toBe(Buffer.from([...expected, 0x7a]).toString("latin1"));
    }
  });

  test("of noise gives bytes or a typed error", () => {
    for (let seed = 1; seed < 3000; seed += 1) {
      try {
        decode(noise(40, seed), 200);
      } catch (error) {
        expect(error).toBeInstanceOf(ErofsError);
      }
    }
  });
});
