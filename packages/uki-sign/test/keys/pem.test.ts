import fc from "fast-check";
import { expect, test } from "vitest";
import { decodePem, encodePem } from "../../src/index.ts";

test("PEM of any bytes is decoded to the same, whatever stands around it", () => {
  const block = fc.record({
    label: fc.constantFrom("CERTIFICATE", "PRIVATE KEY"),
    bytes: fc.uint8Array({ maxLength: 200 }),
  });
  fc.assert(
    fc.property(fc.array(block, { maxLength: 3 }), fc.constantFrom("\n", "\r\n"), (blocks, newline) => {
      const text = blocks.map(({ label, bytes }) => `comment\n${encodePem(label, bytes)}`).join("\n");
      const expected = blocks.map((fields) => ({ ...fields, encrypted: false }));
      expect(decodePem(text.replaceAll("\n", newline))).toEqual(expected);
      expect(decodePem(Buffer.from(text))).toEqual(expected);
    }),
  );
});

test.each([
  ["no end", "-----BEGIN CERTIFICATE-----\nAAAA\n"],
  ["another end", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n"],
  ["a body that is no base64", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"],
  ["nothing", ""],
])("a block with %s is none", (_name, text) => {
  expect(decodePem(text)).toEqual([]);
});

test("an endless row of beginnings is read in no time", () => {
  expect(decodePem("-----BEGIN CERTIFICATE-----\n".repeat(100_000))).toEqual([]);
});
