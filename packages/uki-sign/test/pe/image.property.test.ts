import fc from "fast-check";
import { expect, test } from "vitest";
import {
  addPeSections,
  attachSignature,
  authenticodeDigest,
  decodePe,
  listSignatures,
  readPeSection,
  removeSignatures,
} from "../../src/index.ts";
import { fill, testPe } from "../support/pe.ts";

const content = fc.uint8Array({ minLength: 1, maxLength: 9000 });
const sectionName = fc.stringMatching(/^[\x21-\x7e]{1,8}$/);
const sections = fc.array(fc.record({ name: sectionName, data: content }), { maxLength: 40 });
const image = fc
  .record({ sizes: fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 6 }), tail: fc.nat(20) })
  .map(({ sizes, tail }) => ({
    file: testPe({ sections: sizes.map((size, index) => ({ name: `.t${index}`, data: fill(size, index + 1) })) }),
    tail: fill(tail, 0x5a),
  }));
/** DER of a SEQUENCE with that content, as a signature looks from outside. */
const signature = fc
  .uint8Array({ minLength: 128, maxLength: 255 })
  .map((data) => Uint8Array.of(0x30, 0x81, data.length, ...data));

test("sections that were added are read back, and those before stay as they were", () => {
  fc.assert(
    fc.property(image, sections, ({ file }, added) => {
      const before = decodePe(file);
      const extended = addPeSections(file, added);
      const after = decodePe(extended);
      const read = after.sections.map((section) => ({ name: section.name, data: readPeSection(extended, section) }));
      const kept = before.sections.map((section) => ({ name: section.name, data: readPeSection(file, section) }));
      expect(read).toEqual([...kept, ...added]);
      // What the loader of UEFI asks of a section table.
      let virtualEnd = after.sizeOfHeaders;
      for (const { virtualAddress, virtualSize, rawOffset, rawSize } of after.sections) {
        expect([virtualAddress % after.sectionAlignment, rawOffset % after.fileAlignment]).toEqual([0, 0]);
        expect(virtualAddress).toBeGreaterThanOrEqual(virtualEnd);
        expect(rawSize).toBeGreaterThanOrEqual(virtualSize);
        virtualEnd = virtualAddress + virtualSize;
      }
      expect(after.sizeOfImage).toBe(Math.ceil(virtualEnd / after.sectionAlignment) * after.sectionAlignment);
    }),
    { numRuns: 25 },
  );
});

test("signatures come back in order, change no digest, and removing them gives the padded image back", () => {
  fc.assert(
    fc.property(image, fc.array(signature, { minLength: 1, maxLength: 5 }), ({ file, tail }, signatures) => {
      const unsigned = Uint8Array.of(...file, ...tail);
      const signed = signatures.reduce<Uint8Array>((bytes, data) => attachSignature(bytes, data), unsigned);
      expect(listSignatures(signed).map(({ data }) => data)).toEqual(signatures);
      expect(signed.length % 8).toBe(0);
      expect(authenticodeDigest(signed, "sha256")).toEqual(authenticodeDigest(unsigned, "sha256"));
      const padded = new Uint8Array(Math.ceil(unsigned.length / 8) * 8);
      padded.set(unsigned);
      expect(removeSignatures(signed)).toEqual(padded);
    }),
    { numRuns: 25 },
  );
});
