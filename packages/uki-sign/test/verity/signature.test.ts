import { describe, expect, test } from "vitest";
import {
  decodeVeritySignaturePartition,
  encodeVeritySignaturePartition,
  signCms,
  signRootHash,
  verifyRootHash,
  verifyVeritySignaturePartition,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";

const signer = testSigner();
const certificate = await testCertificate();
const other = await testCertificate("other");
const hash = new Uint8Array(32).fill(0xab);
const rootHash = "ab".repeat(32);
const signature = await signRootHash(hash, { signer, certificate });
const partition = encodeVeritySignaturePartition({ rootHash, certificate, signature });

describe("signRootHash", () => {
  test("signs bytes and hex text alike, with either case", async () => {
    expect(await signRootHash(rootHash.toUpperCase(), { signer, certificate })).toEqual(signature);
    expect(verifyRootHash(signature, hash, { trusted: [certificate] }).signers[0]?.certificate).toEqual(certificate);
  });

  test.each([["ab"], ["xy".repeat(32)], [new Uint8Array(20)], [""]])("refuses the root hash %j", async (wrong) => {
    expect((await rejectionOf(signRootHash(wrong, { signer, certificate }))).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("is not verified for another hash, by another certificate, or with the hash inside", async () => {
    const refusal = (action: () => unknown) => errorOf(action).code;
    expect(refusal(() => verifyRootHash(signature, new Uint8Array(32), { trusted: [certificate] }))).toBe(
      "UKI_SIGN_SIGNATURE_MISMATCH",
    );
    expect(refusal(() => verifyRootHash(signature, hash, { trusted: [other] }))).toBe("UKI_SIGN_UNTRUSTED");
    const embedded = await signCms({ content: new TextEncoder().encode(rootHash), signer, certificate });
    expect(refusal(() => verifyRootHash(embedded, hash, { trusted: [certificate] }))).toBe("UKI_SIGN_CMS_INVALID");
  });
});

describe("a verity signature partition", () => {
  test("holds compact JSON, then zero bytes", () => {
    expect(partition).toHaveLength(16384);
    const text = Buffer.from(partition).toString();
    const json = `{"rootHash":"${rootHash}","certificateFingerprint":"${certificate.fingerprint}","signature":"`;
    expect(text.startsWith(json)).toBe(true);
    expect(text.slice(text.indexOf("\0"))).toMatch(/^\0+$/);
    expect(decodeVeritySignaturePartition(partition)).toEqual({
      rootHash,
      certificateFingerprint: certificate.fingerprint,
      signature,
    });
  });

  test("verifies with the right hash and certificate only", () => {
    expect(verifyVeritySignaturePartition(partition, { rootHash, trusted: [certificate] }).rootHash).toBe(rootHash);
    expect(errorOf(() => verifyVeritySignaturePartition(partition, { trusted: [other] })).code).toBe(
      "UKI_SIGN_UNTRUSTED",
    );
    const wrongHash = { rootHash: "00".repeat(32), trusted: [certificate] };
    expect(errorOf(() => verifyVeritySignaturePartition(partition, wrongHash)).code).toBe("UKI_SIGN_DIGEST_MISMATCH");
    const misnamed = encodeVeritySignaturePartition({ rootHash, certificate: other, signature });
    expect(errorOf(() => verifyVeritySignaturePartition(misnamed, { trusted: [certificate] })).code).toBe(
      "UKI_SIGN_VERITY_INVALID",
    );
  });

  test.each([
    ["no JSON", "hare"],
    ["no object", "[]"],
    ["no root hash", '{"signature":"AAAA"}'],
    ["a signature that is no base64", `{"rootHash":"${rootHash}","signature":"?"}`],
    ["text after the padding", `{"rootHash":"${rootHash}","signature":"AAAA"}\0\0x`],
    ["nothing", ""],
  ])("is refused with %s", (_name, text) => {
    const error = errorOf(() => decodeVeritySignaturePartition(new TextEncoder().encode(text)));
    expect(error.code).toBe("UKI_SIGN_VERITY_INVALID");
  });

  test("is refused when too small for the signature, or larger than systemd reads", () => {
    const small = () => encodeVeritySignaturePartition({ rootHash, certificate, signature }, { sizeBytes: 512 });
    expect(errorOf(small).code).toBe("UKI_SIGN_TOO_LARGE");
    expect(errorOf(() => decodeVeritySignaturePartition(new Uint8Array((4 << 20) + 1))).code).toBe(
      "UKI_SIGN_TOO_LARGE",
    );
  });

  test("throws only UkiSignError when cut or damaged", () => {
    const json = partition.subarray(0, partition.indexOf(0));
    torture(json, (bytes) => verifyVeritySignaturePartition(bytes, { trusted: [certificate] }));
  });
});
