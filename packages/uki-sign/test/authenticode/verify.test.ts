import { describe, expect, test } from "vitest";
import {
  attachSignature,
  authenticodeDigest,
  decodeIndirectData,
  decodePe,
  encodeIndirectData,
  examineSignatures,
  listSignatures,
  signCms,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { fill, testPe } from "../support/pe.ts";

const image = testPe();
const owner = await testCertificate("owner");
const stranger = await testCertificate("stranger");
const root = await testCertificate("root", { isCa: true });
const leaf = await testCertificate("leaf", { signer: testSigner("root"), issuer: root, serialNumber: 2n });
const SIGNING_TIME = new Date("2026-03-04T05:06:07Z");
const signAs = (name: string, certificate: typeof owner, file = image, extra = {}) =>
  signPe(file, { signer: testSigner(name), certificate, ...extra });
const signed = await signAs("owner", owner, image, { signingTime: SIGNING_TIME });
const digest = authenticodeDigest(image, "sha256");

/** `file` with one byte of the first section changed. */
function tampered(file: Uint8Array): Uint8Array {
  const copy = file.slice();
  const at = decodePe(file).sections[0]?.rawOffset ?? 0;
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

describe("signPe", () => {
  test("makes the same file from the same key and time", async () => {
    expect(await signAs("owner", owner, image, { signingTime: SIGNING_TIME })).toEqual(signed);
  });

  test("refuses a certificate of another key", async () => {
    expect((await rejectionOf(signAs("owner", stranger))).code).toBe("UKI_SIGN_KEY_MISMATCH");
  });

  test.each(["sha256", "sha384", "sha512"] as const)("signs with %s", async (hash) => {
    const file = await signAs("owner", owner, image, { hash });
    expect(verifyPe(file, { db: { certificates: [owner] } }).signer).toMatchObject({ hash });
  });
});

describe("verifyPe", () => {
  test("accepts a signature by a certificate in db", () => {
    const verified = verifyPe(signed, { db: { certificates: [stranger, owner] } });
    expect(verified).toMatchObject({ digest, signature: 0, signer: { signingTime: SIGNING_TIME, hash: "sha256" } });
    expect(verified.signer?.certificate.subject).toBe("CN=leveret owner");
  });

  test("accepts a signer whose issuer is in db", async () => {
    const { signer } = verifyPe(await signAs("leaf", leaf), { db: { certificates: [root] } });
    expect(signer?.chain.map(({ subject }) => subject)).toEqual(["CN=leveret leaf", "CN=leveret root"]);
  });

  test("accepts any one of several signatures", async () => {
    const both = await signAs("stranger", stranger, signed);
    expect(verifyPe(both, { db: { certificates: [stranger] } }).signature).toBe(1);
    expect(verifyPe(both, { db: { certificates: [owner] } }).signature).toBe(0);
  });

  test("accepts an unsigned image that db names by digest", () => {
    expect(verifyPe(image, { db: { digests: [authenticodeDigest(image, "sha512")] } })).toEqual({ digest });
  });

  test.each<[string, Uint8Array, Parameters<typeof verifyPe>[1], string]>([
    ["an unsigned image", image, { db: { certificates: [owner] } }, "UKI_SIGN_UNSIGNED"],
    ["a stranger's signature", signed, { db: { certificates: [stranger] } }, "UKI_SIGN_UNTRUSTED"],
    ["an empty db", signed, { db: {} }, "UKI_SIGN_UNTRUSTED"],
    ["a changed image", tampered(signed), { db: { certificates: [owner] } }, "UKI_SIGN_DIGEST_MISMATCH"],
    [
      "a forbidden signer",
      signed,
      { db: { certificates: [owner] }, dbx: { certificates: [owner] } },
      "UKI_SIGN_REVOKED",
    ],
    ["a forbidden digest", signed, { db: { certificates: [owner] }, dbx: { digests: [digest] } }, "UKI_SIGN_REVOKED"],
    [
      "a digest both named and forbidden",
      image,
      { db: { digests: [digest] }, dbx: { digests: [digest] } },
      "UKI_SIGN_REVOKED",
    ],
    ["a digest of odd length", image, { db: { digests: [fill(20, 0)] } }, "UKI_SIGN_BAD_OPTIONS"],
  ])("refuses %s", (_name, file, options, code) => {
    expect(errorOf(() => verifyPe(file, options)).code).toBe(code);
  });

  test("refuses a signer whose issuer is forbidden, even with the signer itself in db", async () => {
    const options = { db: { certificates: [leaf, root] }, dbx: { certificates: [root] } };
    const file = await signAs("leaf", leaf);
    expect(errorOf(() => verifyPe(file, options)).message).toMatch(/CN=leveret leaf by way of CN=leveret root$/);
  });

  test.each<[string, Partial<typeof root>]>([
    ["is no CA", { isCa: false, keyUsage: [] }],
    ["has critical extensions that are unknown", { unknownCriticalExtensions: ["2.5.29.30"] }],
    ["allows no certificates below it", { pathLength: 0 }],
    ["has another spelling of its name", { subject: "CN=Leveret  ROOT" }],
    ["has a key that is not verified with", { publicKey: fill(91, 0x30) }],
  ])("refuses a signer whose issuer is forbidden when that %s", async (_, difference) => {
    const forbidden = { ...root, ...difference };
    const file = await signAs("leaf", leaf);
    const { code } = errorOf(() =>
      verifyPe(file, { db: { certificates: [leaf] }, dbx: { certificates: [forbidden] } }),
    );
    expect(code).toBe("UKI_SIGN_REVOKED");
  });

  test("does not forbid a signer because of somebody with its issuer's name", async () => {
    const namesake = await testCertificate("root", {
      isCa: true,
      publicKey: testSigner("stranger").publicKey,
      signer: testSigner("stranger"),
    });
    expect(namesake.subject).toBe(root.subject);
    const db = { certificates: [leaf] };
    expect(verifyPe(await signAs("leaf", leaf), { db, dbx: { certificates: [namesake] } }).signature).toBe(0);
  });

  test("refuses an image when one of two signers is forbidden", async () => {
    const both = await signAs("stranger", stranger, signed);
    const options = { db: { certificates: [owner] }, dbx: { certificates: [stranger] } };
    expect(errorOf(() => verifyPe(both, options)).code).toBe("UKI_SIGN_REVOKED");
  });

  test("reports every refused signature", async () => {
    const both = await signAs("stranger", stranger, signed);
    const error = errorOf(() => verifyPe(both, { db: {} }));
    expect(error.message).toMatch(/and 1 more signatures that are refused/);
    expect((error.cause as AggregateError).errors).toHaveLength(2);
  });

  test("refuses the signature of another image", () => {
    const [entry] = listSignatures(signed);
    const other = attachSignature(tampered(image), entry?.data ?? fill(0, 0));
    expect(errorOf(() => verifyPe(other, { db: { certificates: [owner] } })).code).toBe("UKI_SIGN_DIGEST_MISMATCH");
  });

  test("refuses a signature about something else than an image", async () => {
    const cms = await signCms({ content: digest, signer: testSigner("owner"), certificate: owner });
    const error = errorOf(() => verifyPe(attachSignature(image, cms), { db: { certificates: [owner] } }));
    expect(error.code).toBe("UKI_SIGN_AUTHENTICODE_INVALID");
  });

  test("never accepts an image after a byte of its signature or content was changed", () => {
    const db = { certificates: [owner] };
    const accepted: number[] = [];
    // Every byte of the headers, and enough of the rest to meet every field of the signature.
    for (let at = 0; at < signed.length; at += at < 512 ? 1 : 5) {
      const flipped = signed.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      try {
        if (verifyPe(flipped, { db }).signer !== undefined) accepted.push(at);
      } catch {
        // Refused, as it has to be; the next test looks at the errors.
      }
    }
    const [entry] = listSignatures(signed);
    const covered = accepted.filter((at) => at < (entry?.offset ?? 0));
    // The checksum, which nothing covers.
    expect(covered).toEqual([152, 153, 154, 155]);
  });

  test("lets only the package's error escape from damaged images", () => {
    torture(signed, (bytes) => verifyPe(bytes, { db: { certificates: [owner] } }), 7);
  });
});

describe("examineSignatures", () => {
  test("names signers nobody trusts, and what is wrong with others", async () => {
    const both = attachSignature(await signAs("stranger", stranger), fill(20, 0x30));
    const [first, second] = examineSignatures(both);
    expect(first?.signer?.certificate.subject).toBe("CN=leveret stranger");
    expect(second?.problem?.code).toBe("UKI_SIGN_DER_INVALID");
    expect(examineSignatures(tampered(signed))[0]?.problem?.code).toBe("UKI_SIGN_DIGEST_MISMATCH");
    expect(examineSignatures(image)).toEqual([]);
  });
});

describe("SpcIndirectDataContent", () => {
  test("is what sbsign 0.9.4 writes", () => {
    const head =
      "30683033060a2b06010401823702010f3025030100a020a21e801c003c003c003c004f00620073006f006c006500740065003e003e003e" +
      "3031300d060960864801650304020105000420";
    const encoded = Buffer.from(encodeIndirectData({ hash: "sha256", digest })).toString("hex");
    expect(encoded).toBe(head + Buffer.from(digest).toString("hex"));
  });

  test.each(["sha256", "sha384", "sha512"] as const)("comes back from its encoding with %s", (hash) => {
    const data = { hash, digest: authenticodeDigest(image, hash) };
    expect(decodeIndirectData(encodeIndirectData(data))).toEqual(data);
  });

  test("lets only the package's error escape from damaged input", () => {
    torture(encodeIndirectData({ hash: "sha256", digest }), (bytes) => decodeIndirectData(bytes));
  });

  test("refuses a digest of the wrong length", () => {
    const encoded = encodeIndirectData({ hash: "sha256", digest });
    // The last octets are the digest and its length.
    const longer = encoded.slice();
    longer[encoded.length - 33] = 31;
    expect(errorOf(() => decodeIndirectData(longer.subarray(0, -1))).code).toMatch(
      /^UKI_SIGN_(DER|AUTHENTICODE)_INVALID$/,
    );
    for (const size of [0, 31, 33, 48, 64]) {
      const error = errorOf(() => encodeIndirectData({ hash: "sha256", digest: fill(size, 1) }));
      expect([error.code, error.message]).toEqual([
        "UKI_SIGN_AUTHENTICODE_INVALID",
        `expected a sha256 digest of 32 bytes, got ${size}`,
      ]);
    }
  });
});
