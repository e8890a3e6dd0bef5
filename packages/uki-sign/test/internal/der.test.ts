import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  DerReader,
  der,
  derInteger,
  derOctetString,
  derOid,
  derSetOf,
  derTime,
  readBitString,
  readBoolean,
  readInteger,
  readOid,
  readTime,
  TAG,
} from "../../src/internal/der.ts";
import { errorOf, torture } from "../support/errors.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));
const only = (input: Uint8Array) => new DerReader(input).next("element");

describe("DER", () => {
  test.each<[string, Uint8Array, string]>([
    ["zero", derInteger(0), "020100"],
    ["127", derInteger(127), "02017f"],
    ["128", derInteger(128), "02020080"],
    ["-128", derInteger(-128), "020180"],
    ["-129", derInteger(-129), "0202ff7f"],
    ["2^64", derInteger(1n << 64n), "0209010000000000000000"],
    ["an identifier", derOid("1.2.840.113549"), "06062a864886f70d"],
    ["an identifier below joint-iso-itu-t", derOid("2.999.3"), "0603883703"],
    ["a time of this century", derTime(new Date("2049-12-31T23:59:59Z")), `170d${hex(Buffer.from("491231235959Z"))}`],
    ["a later time", derTime(new Date("2050-01-01T00:00:00Z")), `180f${hex(Buffer.from("20500101000000Z"))}`],
    ["a set in order", derSetOf([derInteger(2), derInteger(1)]), "3106020101020102"],
  ])("writes %s as X.690 says", (_name, encoded, expected) => {
    expect(hex(encoded)).toBe(expected);
  });

  test.each([
    [0x7f, "047f"],
    [0x80, "048180"],
    [0xff, "0481ff"],
    [0x100, "04820100"],
    [0x10000, "0483010000"],
  ])("writes the length %i in the shortest form, and reads it", (length, header) => {
    const encoded = derOctetString(new Uint8Array(length));
    expect(hex(encoded.subarray(0, encoded.length - length))).toBe(header);
    expect(only(encoded).contents).toHaveLength(length);
  });

  test("reads back integers, identifiers and times of any value", () => {
    const arcs = fc.tuple(fc.nat({ max: 2 }), fc.nat({ max: 39 }), fc.array(fc.nat(), { maxLength: 6 }));
    const times = fc.date({ min: new Date("1000-01-01"), max: new Date("9999-12-31"), noInvalidDate: true });
    fc.assert(
      fc.property(
        fc.bigInt({ min: -(1n << 200n), max: 1n << 200n }),
        arcs,
        times,
        (integer, [root, second, rest], time) => {
          expect(readInteger(only(derInteger(integer)))).toBe(integer);
          const oid = [root, second, ...rest].join(".");
          expect(readOid(only(derOid(oid)))).toBe(oid);
          time.setUTCMilliseconds(0);
          expect(readTime(new DerReader(derTime(time)), "time")).toEqual(time);
        },
      ),
    );
  });

  test.each([
    ["a length that is longer than needed", "04 81 01 00", only],
    ["a length with a leading zero", "04 82 00 80", only],
    ["an indefinite length", "30 80 00 00", only],
    ["a length of five octets", "04 85 01 00 00 00 00", only],
    ["a tag of several octets", "1f 81 00 00", only],
    ["an integer without octets", "02 00", (input: Uint8Array) => readInteger(only(input))],
    ["a padded integer", "02 02 00 7f", (input: Uint8Array) => readInteger(only(input))],
    ["a padded negative integer", "02 02 ff 80", (input: Uint8Array) => readInteger(only(input))],
    ["an identifier without octets", "06 00", (input: Uint8Array) => readOid(only(input))],
    ["an unfinished identifier", "06 02 2a 86", (input: Uint8Array) => readOid(only(input))],
    ["a padded identifier", "06 03 2a 80 01", (input: Uint8Array) => readOid(only(input))],
    [
      "an identifier beyond exact numbers",
      `06 0a 2a ${"ff".repeat(8)} 7f`,
      (input: Uint8Array) => readOid(only(input)),
    ],
    ["a boolean that is neither", "01 01 01", (input: Uint8Array) => readBoolean(only(input))],
    ["a bit string with unused bits", "03 02 01 00", (input: Uint8Array) => readBitString(only(input))],
    [
      "a time without seconds",
      `170b${hex(Buffer.from("4912312359Z"))}`,
      (input: Uint8Array) => readTime(new DerReader(input), "time"),
    ],
    [
      "a day that does not exist",
      `170d${hex(Buffer.from("490230000000Z"))}`,
      (input: Uint8Array) => readTime(new DerReader(input), "time"),
    ],
  ])("refuses %s", (_name, text, read) => {
    const error = errorOf(() => read(bytes(text)));
    expect(error.code).toBe("UKI_SIGN_DER_INVALID");
    expect(error.message).toMatch(/^expected .+ \(at byte \d+\)$/);
  });

  test("says where in the outermost input it stopped", () => {
    const input = bytes("30 07 30 05 02 01 01 05 01");
    const inner = new DerReader(input).enter("outer").enter("inner");
    inner.next("number", TAG.integer);
    const error = errorOf(() => inner.next("null", TAG.null));
    expect(error.message).toBe("expected 1 content bytes in null, got 0 (at byte 7)");
    expect(error.offset).toBe(7);
  });

  test("refuses a time that it cannot write", () => {
    expect(errorOf(() => derTime(new Date("+010000-01-01"))).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("throws only UkiSignError on cut or damaged elements", () => {
    const input = der(TAG.sequence, derInteger(1n << 70n), derOid("1.2.840.113549.1.7.2"), derTime(new Date(0)));
    torture(input, (damaged) => {
      const reader = new DerReader(damaged).enter("sequence");
      readInteger(reader.next("integer"));
      readOid(reader.next("identifier"));
      readTime(reader, "time");
      reader.end("sequence");
    });
  });
});
