import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  authenticodeDigest,
  type Certificate,
  certificateLists,
  decodeSignatureLists,
  encodeSignatureDatabase,
  encodeSignatureLists,
  findAuthority,
  type SignatureList,
  signatureDatabase,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { fill, testPe } from "../support/pe.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const image = testPe();
const root = await testCertificate("root", { isCa: true });
const leaf = await testCertificate("leaf", { signer: testSigner("root"), issuer: root, serialNumber: 2n });
const stranger = await testCertificate("stranger");
const signed = await signPe(image, { signer: testSigner("leaf"), certificate: leaf });
const digest = authenticodeDigest(image, "sha256", { padding: "none" });
const TYPES = { x509Sha256: "sha256", x509Sha384: "sha384", x509Sha512: "sha512" } as const;

/** A dbx with the hash of a certificate and no time, which means for ever. */
function tbsHash(type: keyof typeof TYPES, { tbs }: Certificate): SignatureList {
  const data = new Uint8Array([...createHash(TYPES[type]).update(tbs).digest(), ...fill(16, 0)]);
  return { type, signatures: [{ owner: OWNER, data }] };
}

describe("findAuthority", () => {
  test("finds the entry that the signature leads to", () => {
    const db = encodeSignatureDatabase([stranger, leaf, root], OWNER);
    expect(findAuthority(signed, { db })).toEqual({ owner: OWNER, data: leaf.der });
  });

  test("takes the first of two that would do, as firmware does", () => {
    const db = encodeSignatureDatabase([stranger, root, leaf], OWNER);
    expect(findAuthority(signed, { db })).toEqual({ owner: OWNER, data: root.der });
  });

  test("finds the digest by which an unsigned image is accepted", () => {
    const lists: SignatureList[] = [
      ...certificateLists([stranger], OWNER),
      { type: "sha512", signatures: [{ owner: OWNER, data: fill(64, 1) }] },
      { type: "sha256", signatures: [fill(32, 2), digest].map((data) => ({ owner: OWNER, data })) },
    ];
    expect(findAuthority(image, { db: encodeSignatureLists(lists) })).toEqual({ owner: OWNER, data: digest });
  });

  test("refuses what firmware refuses", () => {
    const db = encodeSignatureDatabase([root], OWNER);
    expect(errorOf(() => findAuthority(image, { db })).code).toBe("UKI_SIGN_UNSIGNED");
    const dbx = encodeSignatureDatabase([leaf], OWNER);
    expect(errorOf(() => findAuthority(signed, { db, dbx })).code).toBe("UKI_SIGN_REVOKED");
  });

  test("lets only the package's error escape from damaged databases", () => {
    torture(encodeSignatureDatabase([root], OWNER), (db) => findAuthority(signed, { db }), 3);
  });
});

describe("signatureDatabase", () => {
  test("sorts entries by what they say", () => {
    const lists = decodeSignatureLists(
      encodeSignatureLists([
        ...certificateLists([root], OWNER),
        { type: "x509", signatures: [{ owner: OWNER, data: fill(90, 1) }] },
        { type: "sha256", signatures: [{ owner: OWNER, data: digest }] },
        { type: "sha1", signatures: [{ owner: OWNER, data: fill(20, 1) }] },
        tbsHash("x509Sha384", leaf),
      ]),
    );
    const { certificates, digests, certificateHashes } = signatureDatabase(lists);
    expect(certificates.map(({ subject }) => subject)).toEqual(["CN=leveret root"]);
    expect(digests).toEqual([digest]);
    expect(certificateHashes).toEqual([new Uint8Array(createHash("sha384").update(leaf.tbs).digest())]);
  });
});

describe("verifyPe with hashes of certificates in dbx", () => {
  const db = { certificates: [root] };
  const types = Object.keys(TYPES) as (keyof typeof TYPES)[];

  test.each(types)("refuses a signer by %s", (type) => {
    expect(verifyPe(signed, { db }).signature).toBe(0);
    const error = errorOf(() => verifyPe(signed, { db, dbx: signatureDatabase([tbsHash(type, leaf)]) }));
    expect([error.code, error.message]).toEqual(["UKI_SIGN_REVOKED", expect.stringContaining("CN=leveret leaf")]);
  });

  test.each(types)("refuses an issuer by %s, also one that only db holds", (type) => {
    const error = errorOf(() => verifyPe(signed, { db, dbx: signatureDatabase([tbsHash(type, root)]) }));
    expect([error.code, error.message]).toEqual(["UKI_SIGN_REVOKED", expect.stringContaining("CN=leveret root")]);
  });

  test("accepts a signer when others are forbidden", () => {
    const dbx = signatureDatabase([tbsHash("x509Sha256", stranger)]);
    expect(verifyPe(signed, { db, dbx }).signature).toBe(0);
  });

  test("does not mistake a hash of a certificate for one of an image", () => {
    expect(verifyPe(signed, { db, dbx: { certificateHashes: [digest] } }).signature).toBe(0);
    expect(errorOf(() => verifyPe(image, { db: { certificateHashes: [digest] } })).code).toBe("UKI_SIGN_UNSIGNED");
  });
});
