import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  certificateLists,
  decodeGuid,
  decodeSignatureLists,
  encodeGuid,
  encodeSignatureLists,
  type SignatureList,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, torture } from "../support/errors.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const hash = (octet: number) => ({ owner: OWNER, data: new Uint8Array(32).fill(octet) });

test("a GUID has its first three fields little-endian", () => {
  const octets = Uint8Array.of(4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16);
  expect(encodeGuid(OWNER.toUpperCase())).toEqual(octets);
  expect(decodeGuid(octets)).toBe(OWNER);
  expect(errorOf(() => encodeGuid("0102")).code).toBe("UKI_SIGN_BAD_OPTIONS");
});

describe("signature lists", () => {
  test("are laid out as the specification draws them", () => {
    const bytes = encodeSignatureLists([{ type: "sha256", signatures: [hash(1), hash(2)] }]);
    const header = "2616c4c14c509240aca941f936934328" + "7c000000" + "00000000" + "30000000";
    const owner = "0403020106050807090a0b0c0d0e0f10";
    expect(Buffer.from(bytes).toString("hex")).toBe(header + owner + "01".repeat(32) + owner + "02".repeat(32));
  });

  test("hold one certificate each", async () => {
    const certificates = [await testCertificate(), await testCertificate("other")];
    const lists = decodeSignatureLists(encodeSignatureLists(certificateLists(certificates, OWNER)));
    expect(lists.map(({ type }) => type)).toEqual(["x509", "x509"]);
    expect(lists.map(({ signatures }) => signatures[0]?.data)).toEqual(certificates.map(({ der }) => der));
  });

  test("of any content are decoded to what was encoded", () => {
    const sizes = {
      sha1: 20,
      sha256: 32,
      sha384: 48,
      sha512: 64,
      rsa2048: 256,
      "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee": 5,
    };
    const list = fc.constantFrom(...Object.entries(sizes)).chain(([type, size]) =>
      fc.record({
        type: fc.constant(type),
        signatures: fc.array(
          fc.record({ owner: fc.uuid(), data: fc.uint8Array({ minLength: size, maxLength: size }) }),
          { minLength: 1, maxLength: 4 },
        ),
      }),
    );
    fc.assert(
      fc.property(fc.array(list, { maxLength: 4 }), (lists) => {
        expect(decodeSignatureLists(encodeSignatureLists(lists))).toEqual(lists);
      }),
    );
  });

  test.each<[string, SignatureList]>([
    ["without signatures", { type: "sha256", signatures: [] }],
    ["with a hash of the wrong size", { type: "sha384", signatures: [hash(1)] }],
    ["with signatures of two sizes", { type: "x509", signatures: [hash(1), { owner: OWNER, data: Uint8Array.of(1) }] }],
  ])("%s are refused", (_name, list) => {
    expect(errorOf(() => encodeSignatureLists([list])).code).toBe("UKI_SIGN_SIGNATURE_LIST_INVALID");
  });

  test("of an unknown type that is no GUID are refused", () => {
    expect(errorOf(() => encodeSignatureLists([{ type: "md5", signatures: [hash(1)] }])).code).toBe(
      "UKI_SIGN_BAD_OPTIONS",
    );
  });

  test("say where they are wrong", () => {
    const bytes = encodeSignatureLists([
      { type: "sha256", signatures: [hash(1)] },
      { type: "sha256", signatures: [hash(2)] },
    ]);
    const error = errorOf(() => decodeSignatureLists(bytes.subarray(0, -1)));
    expect(error.message).toBe("expected 76 bytes of signature list, got 75 (at byte 76)");
    expect(error.offset).toBe(76);
    torture(bytes, decodeSignatureLists);
  });
});
