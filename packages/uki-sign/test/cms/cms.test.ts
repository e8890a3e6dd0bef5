import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { decodeCms, type SignCmsOptions, signCms, verifyCms } from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";

const signer = testSigner();
const certificate = await testCertificate();
const other = await testCertificate("other");
const content = new TextEncoder().encode("leveret");
const SPC = "1.3.6.1.4.1.311.2.1.4";
const element = Uint8Array.of(0x30, 0x03, 0x02, 0x01, 0x07);

const sign = (options: Partial<SignCmsOptions> = {}): Promise<Uint8Array> =>
  signCms({ content, signer, certificate, ...options });

describe("signCms and verifyCms", () => {
  for (const hash of ["sha256", "sha384", "sha512"] as const) {
    for (const detached of [true, false]) {
      for (const attributes of ["none", []] as const) {
        test(`agree on ${hash}, detached ${detached}, attributes ${JSON.stringify(attributes)}`, async () => {
          const bytes = await sign({ hash, detached, attributes });
          expect(await sign({ hash, detached, attributes })).toEqual(bytes);
          const verified = verifyCms(bytes, { trusted: [certificate], ...(detached ? { content } : {}) });
          expect(verified.content).toEqual(content);
          expect(verified.signers).toEqual([
            { certificate, chain: [certificate], hash, padding: "pkcs1", signingTime: undefined },
          ]);
        });
      }
    }
  }

  test.each(["sha256", "sha384", "sha512"] as const)("agree on RSASSA-PSS with %s", async (hash) => {
    const bytes = await sign({ hash, padding: "pss" });
    expect(await sign({ hash, padding: "pss" })).toEqual(bytes);
    expect(verifyCms(bytes, { trusted: [certificate] }).signers[0]).toMatchObject({ hash, padding: "pss" });
    expect(decodeCms(bytes).signers[0]?.scheme.saltBytes).toBe(Number(hash.slice(3)) / 8);
  });

  test("keep attributes and the signing time", async () => {
    const signingTime = new Date("2026-11-21T12:00:00Z");
    const attribute = { type: "1.3.6.1.4.1.311.2.1.12", values: [Uint8Array.of(0x30, 0)] };
    const bytes = await sign({ attributes: [attribute], signingTime });
    const verified = verifyCms(bytes, { trusted: [certificate] });
    expect(verified.signers[0]?.signingTime).toEqual(signingTime);
    expect(decodeCms(bytes).signers[0]?.signedAttributes).toContainEqual(attribute);
  });

  test("embed content of another type as it is, and hash it without tag and length", async () => {
    const bytes = await sign({ contentType: SPC, content: element });
    const cms = decodeCms(bytes);
    expect(cms.contentType).toBe(SPC);
    expect(cms.content).toEqual(element);
    const digest = createHash("sha256").update(element.subarray(2)).digest();
    const attribute = cms.signers[0]?.signedAttributes?.find(({ type }) => type === "1.2.840.113549.1.9.4");
    expect(attribute?.values[0]?.subarray(2)).toEqual(new Uint8Array(digest));
    expect(verifyCms(bytes, { trusted: [certificate] }).content).toEqual(element);
    const detached = await sign({ contentType: SPC, content: element, detached: true });
    expect(verifyCms(detached, { trusted: [certificate], content: element }).content).toEqual(element);
  });

  test("take Buffers, and give plain arrays", async () => {
    const bytes = Buffer.from(await sign({ content: Buffer.from(content) }));
    const verified = verifyCms(bytes, { trusted: [certificate] });
    expect(Object.getPrototypeOf(verified.content)).toBe(Uint8Array.prototype);
    expect(verified.signers[0]?.certificate).toEqual(certificate);
  });

  test("do without ContentInfo and without certificate", async () => {
    const bytes = await sign({ contentInfo: false, includeCertificate: false });
    expect(decodeCms(bytes).certificates).toEqual([]);
    expect(verifyCms(bytes, { trusted: [certificate] }).signers).toHaveLength(1);
    expect(errorOf(() => verifyCms(bytes, { trusted: [other] })).code).toBe("UKI_SIGN_UNTRUSTED");
    expect(verifyCms(bytes, { trusted: "unchecked", certificates: [certificate] }).signers).toHaveLength(1);
  });
});

describe("signCms refuses", () => {
  test.each<[string, Partial<SignCmsOptions>, string]>([
    ["a certificate of another key", { certificate: other }, "UKI_SIGN_KEY_MISMATCH"],
    ["content that is no DER element", { contentType: SPC, content }, "UKI_SIGN_CMS_INVALID"],
    ["a signing time without attributes", { attributes: "none", signingTime: new Date(0) }, "UKI_SIGN_BAD_OPTIONS"],
    [
      "an attribute it makes itself",
      { attributes: [{ type: "1.2.840.113549.1.9.4", values: [element] }] },
      "UKI_SIGN_BAD_OPTIONS",
    ],
    ["a content type that is none", { contentType: "data" }, "UKI_SIGN_BAD_OPTIONS"],
    ["content too long to embed", { content: new Uint8Array((16 << 20) + 1) }, "UKI_SIGN_TOO_LARGE"],
  ])("%s", async (_name, options, code) => {
    expect((await rejectionOf(sign(options))).code).toBe(code);
  });

  test("options it does not know", async () => {
    const error = await rejectionOf(sign({ detach: true } as Partial<SignCmsOptions>));
    expect(error.code).toBe("UKI_SIGN_BAD_OPTIONS");
    expect(error.message).toContain("detach");
  });
});

describe("verifyCms refuses", () => {
  test.each([["none"], [[]]] as const)("other content with attributes %j", async (attributes) => {
    const bytes = await sign({ attributes, detached: true });
    const error = errorOf(() => verifyCms(bytes, { trusted: [certificate], content: element }));
    expect(error.code).toBe(attributes === "none" ? "UKI_SIGN_SIGNATURE_MISMATCH" : "UKI_SIGN_DIGEST_MISMATCH");
  });

  test("embedded content that differs from the given one", async () => {
    const bytes = await sign();
    const error = errorOf(() => verifyCms(bytes, { trusted: [certificate], content: element }));
    expect(error.code).toBe("UKI_SIGN_DIGEST_MISMATCH");
  });

  test("a detached signature without content", async () => {
    const bytes = await sign({ detached: true });
    expect(errorOf(() => verifyCms(bytes, { trusted: [certificate] })).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("a signer nobody trusts, although its certificate is embedded", async () => {
    const bytes = await sign();
    const error = errorOf(() => verifyCms(bytes, { trusted: [other] }));
    expect(error.code).toBe("UKI_SIGN_UNTRUSTED");
    expect(error.hint).toBe("its issuer is CN=leveret default; trusted: CN=leveret other");
  });

  test("another type of content without signed attributes", async () => {
    const bytes = await sign({ contentType: SPC, content: element, attributes: "none" });
    expect(errorOf(() => verifyCms(bytes, { trusted: [certificate] })).code).toBe("UKI_SIGN_CMS_INVALID");
  });

  test("every single byte flipped in a signature without unauthenticated parts", async () => {
    const bytes = await sign({ attributes: "none", includeCertificate: false });
    for (let at = 0; at < bytes.length; at++) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0xff;
      // The outer digestAlgorithms and algorithm parameters carry no information that is used.
      try {
        const { content: seen } = verifyCms(flipped, { trusted: [certificate] });
        expect(seen).toEqual(content);
      } catch (error) {
        expect(error).toMatchObject({ name: "UkiSignError" });
      }
    }
  });
});

test("decodeCms and verifyCms throw only UkiSignError on cut or damaged input", async () => {
  torture(await sign(), decodeCms);
  torture(await sign({ padding: "pss", signingTime: new Date("2026-06-01") }), decodeCms);
  torture(await sign(), (bytes) => verifyCms(bytes, { trusted: [certificate] }), 7);
  torture(await sign({ includeCertificate: false, contentInfo: false }), (bytes) =>
    verifyCms(bytes, { trusted: [certificate] }),
  );
});
