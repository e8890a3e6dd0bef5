import { describe, expect, test } from "vitest";
import * as pe from "../../src/format/pe.ts";
import {
  attachSignature,
  authenticodeDigest,
  type Certificate,
  DEFAULT_MAX_SIGNATURES,
  decodePe,
  listSignatures,
  removeSignatures,
  signPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { fill, TEST_PE, testPe, withU16, withU32 } from "../support/pe.ts";

/** A DER SEQUENCE of that many octets: what a certificate table's PKCS#7 looks like from outside. */
const sequence = (size: number, octet: number) => Uint8Array.of(0x30, 0x80 + 1, size, ...fill(size, octet));
const one = sequence(130, 1);
const two = sequence(141, 2);
const image = testPe();
const odd = Uint8Array.of(...image, 1, 2, 3);
const table = TEST_PE.optional + pe.OPTIONAL_HEADER_SIZE + pe.DIRECTORY_CERTIFICATES * pe.DIRECTORY_SIZE;

describe("attachSignature", () => {
  test("appends an aligned entry and says so in the directory", () => {
    const signed = attachSignature(image, one);
    expect(decodePe(signed).certificates).toEqual({ address: image.length, size: 144 });
    expect(signed.length).toBe(image.length + 144);
    expect([...signed.subarray(image.length, image.length + 8)]).toEqual([144, 0, 0, 0, 0, 2, 2, 0]);
    expect(listSignatures(signed)).toEqual([{ offset: image.length, type: 2, data: one }]);
  });

  test("keeps earlier signatures, in order, and the digest they cover", () => {
    const signed = attachSignature(attachSignature(odd, one), two);
    expect(listSignatures(signed).map(({ data }) => data)).toEqual([one, two]);
    expect(authenticodeDigest(signed, "sha256")).toEqual(authenticodeDigest(odd, "sha256"));
  });

  test("pads the image to 8 bytes first", () => {
    expect(decodePe(attachSignature(odd, one)).certificates?.address).toBe(image.length + 8);
  });

  test("keeps a checksum right and leaves an absent one absent", () => {
    const checked = withU32(image, TEST_PE.optional + pe.OPTIONAL_CHECKSUM, 0x1234);
    // Sum of all 16-bit words with the field as 0, folded, plus the length, computed here one word at a time.
    const signed = attachSignature(checked, one);
    const words = withU32(signed, TEST_PE.optional + pe.OPTIONAL_CHECKSUM, 0);
    let sum = 0;
    for (let i = 0; i < words.length; i += 2) {
      sum += (words[i] ?? 0) + 256 * (words[i + 1] ?? 0);
      sum = (sum & 0xffff) + (sum >>> 16);
    }
    expect(decodePe(signed).checksum).toBe(sum + signed.length);
    expect(decodePe(attachSignature(image, one)).checksum).toBe(0);
  });

  test("refuses an image without a directory entry for signatures", () => {
    expect(errorOf(() => attachSignature(testPe({ directories: 4 }), one)).code).toBe("UKI_SIGN_PE_UNSUPPORTED");
  });
});

describe("removeSignatures", () => {
  test("gives back the image that was signed", () => {
    expect(removeSignatures(attachSignature(image, one))).toEqual(image);
  });

  test("removes one of several", () => {
    const signed = attachSignature(attachSignature(image, one), two);
    expect(listSignatures(removeSignatures(signed, 0)).map(({ data }) => data)).toEqual([two]);
    expect(removeSignatures(signed, 1)).toEqual(attachSignature(image, one));
  });

  test("removes those by a certificate, and leaves malformed ones alone", async () => {
    const [owner, stranger] = [await testCertificate("owner"), await testCertificate("stranger", { serialNumber: 2n })];
    const sign = (file: Uint8Array, name: string, certificate: Certificate) =>
      signPe(file, { signer: testSigner(name), certificate });
    const ours = await sign(attachSignature(image, one), "owner", owner);
    const all = await sign(await sign(ours, "stranger", stranger), "owner", owner);
    const kept = removeSignatures(all, owner);
    expect(listSignatures(kept).map(({ data }) => data)).toEqual([one, listSignatures(all)[2]?.data]);
    expect(errorOf(() => removeSignatures(kept, owner)).code).toBe("UKI_SIGN_UNSIGNED");
  });

  test.each<[string, Uint8Array, number | undefined]>([
    ["an unsigned image", image, undefined],
    ["an index that does not exist", attachSignature(image, one), 1],
    ["a negative index", attachSignature(image, one), -1],
  ])("refuses %s", (_name, file, index) => {
    expect(errorOf(() => removeSignatures(file, index)).code).toBe("UKI_SIGN_UNSIGNED");
  });
});

describe("listSignatures", () => {
  const signed = attachSignature(image, one);

  test("is empty for an unsigned image", () => {
    expect(listSignatures(image)).toEqual([]);
  });

  test("returns other types of certificates as they are", () => {
    const [entry] = listSignatures(withU16(signed, image.length + 6, 0x0ef1));
    expect(entry?.type).toBe(0x0ef1);
    expect(entry?.data).toHaveLength(136);
  });

  test.each<[string, Uint8Array]>([
    ["an entry of length 0", withU32(signed, image.length, 0)],
    ["an entry without content", withU32(signed, image.length, 8)],
    ["an entry beyond the table", withU32(signed, image.length, 145)],
    ["an unknown revision", withU16(signed, image.length + 4, 0x100)],
    ["a table that ends inside a header", withU32(Uint8Array.of(...signed, 9, 0, 0, 0), table + 4, 148)],
  ])("refuses %s", (_name, file) => {
    expect(errorOf(() => listSignatures(file)).code).toBe("UKI_SIGN_PE_INVALID");
  });

  test("stops at its limit", () => {
    let file: Uint8Array = image;
    for (let i = 0; i < DEFAULT_MAX_SIGNATURES; i++) file = attachSignature(file, one);
    expect(listSignatures(file)).toHaveLength(DEFAULT_MAX_SIGNATURES);
    expect(errorOf(() => listSignatures(attachSignature(file, one))).code).toBe("UKI_SIGN_TOO_LARGE");
  });

  test("lets only the package's error escape from damaged images", () => {
    torture(signed, (bytes) => listSignatures(bytes));
  });
});

describe("authenticodeDigest", () => {
  const digest = (file: Uint8Array) => Buffer.from(authenticodeDigest(file, "sha256")).toString("hex");

  test("does not cover checksum, certificate table and its directory entry", () => {
    const checked = withU32(image, TEST_PE.optional + pe.OPTIONAL_CHECKSUM, 99);
    expect(digest(attachSignature(checked, one))).toBe(digest(image));
  });

  test("covers every other byte", () => {
    const uncovered = [TEST_PE.optional + pe.OPTIONAL_CHECKSUM, table].flatMap((at, i) =>
      Array.from({ length: i === 0 ? 4 : 8 }, (_, j) => at + j),
    );
    const unchanged: number[] = [];
    for (let at = 0; at < image.length; at++) {
      const flipped = image.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      try {
        if (digest(flipped) === digest(image)) unchanged.push(at);
      } catch {
        // A flip in the headers may make the file no image at all, which is as good as another digest.
      }
    }
    expect(unchanged.filter((at) => !uncovered.includes(at))).toEqual([]);
  });

  test("pads as for signing unless told not to", () => {
    const padded = Uint8Array.of(...odd, 0, 0, 0, 0, 0);
    expect(digest(odd)).toBe(digest(padded));
    expect(authenticodeDigest(odd, "sha256", { padding: "none" })).not.toEqual(authenticodeDigest(padded, "sha256"));
  });

  test.each(["sha256", "sha384", "sha512"] as const)("makes %s digests", (hash) => {
    expect(authenticodeDigest(image, hash)).toHaveLength(Number(hash.slice(3)) / 8);
  });

  test("refuses sections that overlap or leave gaps", () => {
    const raw = TEST_PE.sectionTable + 40 + pe.SECTION_POINTER_TO_RAW_DATA;
    expect(errorOf(() => authenticodeDigest(withU32(image, raw, 1536), "sha256")).code).toBe("UKI_SIGN_PE_INVALID");
    const gap = Uint8Array.of(...withU32(image, raw, 2560), ...fill(512, 0));
    expect(errorOf(() => authenticodeDigest(gap, "sha256")).code).toBe("UKI_SIGN_PE_INVALID");
  });
});
