import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  assertKeyMatches,
  type CreateCertificateOptions,
  decodeCertificate,
  encodePem,
  isSignedBy,
  verifyChain,
} from "../../src/index.ts";
import { testCertificate, VALIDITY } from "../support/certificates.ts";
import { errorOf, rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";

const CODE_SIGNING = "1.3.6.1.5.5.7.3.3";
// Making keys takes longer than anything else here, so certificates that sign nothing share one.
const LEAF_KEY = testSigner("leaf").publicKey;
const root = await testCertificate("root", { isCa: true, pathLength: 1 });
const issued = (name: string, issuer: [string, typeof root], options: Partial<CreateCertificateOptions> = {}) =>
  testCertificate(name, {
    publicKey: LEAF_KEY,
    signer: testSigner(issuer[0]),
    issuer: issuer[1],
    serialNumber: 7n,
    ...options,
  });
const middle = await issued("middle", ["root", root], { isCa: true, publicKey: testSigner("middle").publicKey });
const leaf = await issued("leaf", ["middle", middle], { extendedKeyUsage: [CODE_SIGNING] });

describe("createCertificate", () => {
  test("makes the same bytes from the same options", async () => {
    expect((await issued("leaf", ["middle", middle], { extendedKeyUsage: [CODE_SIGNING] })).der).toEqual(leaf.der);
  });

  test.each([
    ["a line end", "a\nb", "CN=a\\0Ab"],
    ["an escape sequence", "a\u001b[2Jb", "CN=a\\1B[2Jb"],
    ["a direction override", "a\u202eb", "CN=a\\E2\\80\\AEb"],
    ["a line separator", "a\u2028b", "CN=a\\E2\\80\\A8b"],
    ["a character without a shape", "a\u200bb", "CN=a\\E2\\80\\8Bb"],
  ])("shows %s in a name as hex pairs", async (_name, commonName, text) => {
    expect((await issued("leaf", ["middle", middle], { subject: { commonName } })).subject).toBe(text);
  });

  test("makes what node:crypto reads the same way", async () => {
    const made = await testCertificate("subject", {
      subject: { commonName: 'Häre, "wild"', organization: "leveret", organizationalUnit: "db", country: "DE" },
      serialNumber: 0xdeadbeefn,
      extendedKeyUsage: [CODE_SIGNING],
    });
    const x509 = new X509Certificate(made.der);
    expect(made.subject).toBe('CN=Häre\\, \\"wild\\",OU=db,O=leveret,C=DE');
    expect(x509.serialNumber).toBe("DEADBEEF");
    expect(new Date(x509.validFrom)).toEqual(made.notBefore);
    expect(new Date(x509.validTo)).toEqual(made.notAfter);
    expect(x509.ca).toBe(false);
    expect(x509.keyUsage).toEqual([CODE_SIGNING]);
    expect(x509.fingerprint256.replaceAll(":", "").toLowerCase()).toBe(made.fingerprint);
    expect(x509.verify(x509.publicKey)).toBe(true);
    expect(new X509Certificate(leaf.der).checkIssued(new X509Certificate(middle.der))).toBe(true);
  });

  test("keeps what it was given", () => {
    expect(root).toMatchObject({ isCa: true, pathLength: 1, keyBits: 2048, serialNumber: 1n, ...VALIDITY });
    expect(root.keyUsage).toEqual(["digitalSignature", "keyCertSign", "cRLSign"]);
    expect(leaf).toMatchObject({ isCa: false, pathLength: undefined, issuer: "CN=leveret middle" });
    expect(leaf.authorityKeyIdentifier).toEqual(middle.subjectKeyIdentifier);
  });

  test("writes years from 2050 on as GeneralizedTime", async () => {
    const notAfter = new Date("2076-06-01T01:02:03Z");
    expect((await testCertificate("default", { notAfter })).notAfter).toEqual(notAfter);
  });

  test.each<[string, Partial<CreateCertificateOptions>, string]>([
    ["the key of another issuer", { issuer: middle }, "UKI_SIGN_KEY_MISMATCH"],
    ["another key in a self-signed certificate", { publicKey: testSigner("other").publicKey }, "UKI_SIGN_KEY_MISMATCH"],
    ["bytes that are no key", { publicKey: new Uint8Array(3) }, "UKI_SIGN_DER_INVALID"],
    ["serial number 0", { serialNumber: 0n }, "UKI_SIGN_BAD_OPTIONS"],
    ["no common name", { subject: { commonName: "" } }, "UKI_SIGN_BAD_OPTIONS"],
    ["a period that ends before it begins", { notAfter: new Date(0) }, "UKI_SIGN_BAD_OPTIONS"],
    ["a path length without isCa", { pathLength: 0 }, "UKI_SIGN_BAD_OPTIONS"],
    ["a purpose that is no identifier", { extendedKeyUsage: ["codeSigning"] }, "UKI_SIGN_BAD_OPTIONS"],
  ])("refuses %s", async (_name, options, code) => {
    expect((await rejectionOf(testCertificate("default", options))).code).toBe(code);
  });
});

describe("decodeCertificate", () => {
  test("reads PEM, as text and as bytes, and DER", () => {
    const pem = `subject: hare\n${encodePem("CERTIFICATE", leaf.der)}`;
    expect(decodeCertificate(pem)).toEqual(leaf);
    expect(decodeCertificate(new TextEncoder().encode(pem))).toEqual(leaf);
    expect(decodeCertificate(leaf.der)).toEqual(leaf);
    const bytes = Buffer.from(leaf.der);
    const decoded = decodeCertificate(bytes);
    bytes.fill(0);
    expect(decoded).toEqual(leaf);
  });

  test.each([
    ["nothing", "", "UKI_SIGN_CERTIFICATE_INVALID", "expected one certificate in DER or PEM, got none"],
    ["two certificates", encodePem("CERTIFICATE", leaf.der).repeat(2), "UKI_SIGN_CERTIFICATE_INVALID", "got 2"],
    ["a key", encodePem("PRIVATE KEY", leaf.der), "UKI_SIGN_CERTIFICATE_INVALID", "got none"],
    ["bytes behind the certificate", Uint8Array.of(...leaf.der, 0), "UKI_SIGN_DER_INVALID", "got 1 more bytes"],
  ])("refuses %s", (_name, input, code, message) => {
    const error = errorOf(() => decodeCertificate(input));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  test("throws only UkiSignError on cut or damaged input, and never believes it", () => {
    torture(leaf.der, (bytes) => {
      if (isSignedBy(decodeCertificate(bytes), middle)) throw new Error("believed a damaged certificate");
    });
  });
});

describe("verifyChain", () => {
  test("finds the chain through intermediates, and accepts a trusted certificate by itself", () => {
    expect(verifyChain(leaf, { trusted: [root], intermediates: [leaf, middle] })).toEqual([leaf, middle, root]);
    expect(verifyChain(leaf, { trusted: [middle] })).toEqual([leaf, middle]);
    expect(verifyChain(leaf, { trusted: [root, leaf] })).toEqual([leaf]);
  });

  test("refuses a chain with a link missing", () => {
    const error = errorOf(() => verifyChain(leaf, { trusted: [root] }));
    expect(error.code).toBe("UKI_SIGN_UNTRUSTED");
    expect(error.message).toBe("expected a certificate that a trusted one issued, got CN=leveret leaf");
  });

  test("refuses an issuer that is no authority, has the right name only, or too long a path", async () => {
    const below = await issued("below", ["leaf", leaf]);
    const trust = (certificate: typeof leaf, ...intermediates: (typeof leaf)[]) =>
      errorOf(() => verifyChain(certificate, { trusted: [root], intermediates })).code;
    expect(trust(below, leaf, middle)).toBe("UKI_SIGN_UNTRUSTED");
    const impostor = await testCertificate("impostor", { subject: { commonName: "leveret root" }, isCa: true });
    expect(trust(await issued("x", ["impostor", impostor]), impostor)).toBe("UKI_SIGN_UNTRUSTED");
    const deep = await issued("deep", ["middle", middle], { isCa: true });
    expect(trust(await issued("y", ["leaf", deep]), deep, middle)).toBe("UKI_SIGN_UNTRUSTED");
    const silent = await issued("silent", ["root", root], { isCa: true, keyUsage: ["digitalSignature"] });
    expect(trust(await issued("z", ["leaf", silent]), silent)).toBe("UKI_SIGN_UNTRUSTED");
  });

  test("checks validity and purpose when asked to", () => {
    const options = { trusted: [root], intermediates: [middle] };
    expect(verifyChain(leaf, { ...options, at: new Date("2030-01-01"), extendedKeyUsage: CODE_SIGNING })).toHaveLength(
      3,
    );
    for (const [wrong, message] of [
      [
        { at: new Date("2025-12-31") },
        /^expected a certificate that is valid at 2025-12-31T.*, got CN=leveret leaf, valid/,
      ],
      [{ at: new Date("2037-01-01") }, /^expected a certificate that is valid at 2037-01-01T/],
      [
        { extendedKeyUsage: "1.2.3" },
        /^expected a certificate for the purpose 1\.2\.3, got CN=leveret leaf, which is for 1\.3/,
      ],
    ] as const) {
      const error = errorOf(() => verifyChain(leaf, { ...options, ...wrong }));
      expect([error.code, error.message]).toEqual(["UKI_SIGN_UNTRUSTED", expect.stringMatching(message)]);
    }
  });
});

test("assertKeyMatches tells a certificate's key from another", async () => {
  await assertKeyMatches(testSigner("leaf"), leaf);
  expect((await rejectionOf(assertKeyMatches(testSigner("root"), leaf))).code).toBe("UKI_SIGN_KEY_MISMATCH");
});
