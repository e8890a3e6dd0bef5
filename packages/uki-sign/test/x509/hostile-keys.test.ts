import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  certificateKey,
  DEFAULT_MAX_CHAIN_SIGNATURES,
  isSignedBy,
  pemSigner,
  verifyChain,
  verifyPcrSignature,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, rejectionOf } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";

const numberOf = (base64url: string | undefined): bigint =>
  BigInt(`0x${Buffer.from(base64url ?? "", "base64url").toString("hex")}`);

function base64url(number: bigint): string {
  const digits = number.toString(16);
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), "0"), "hex").toString("base64url");
}

function inverse(value: bigint, modulus: bigint): bigint {
  let [r0, r1, s0, s1] = [value, modulus, 1n, 0n];
  while (r1 !== 0n) {
    const quotient = r0 / r1;
    [r0, r1, s0, s1] = [r1, r0 - quotient * r1, s1, s0 - quotient * s1];
  }
  return ((s0 % modulus) + modulus) % modulus;
}

/** A sound RSA key whose exponents have changed places: the public one is as long as the modulus. */
function swappedKey(): { pem: string; spki: Uint8Array; bits: number } {
  const { n, p, q, qi } = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
  const [d, one] = [65537n, 1n];
  const e = inverse(d, (numberOf(p) - one) * (numberOf(q) - one));
  const [dp, dq] = [d % (numberOf(p) - one), d % (numberOf(q) - one)].map(base64url);
  const jwk = { kty: "RSA", n, e: base64url(e), d: base64url(d), p, q, dp, dq, qi };
  const key = createPrivateKey({ key: jwk as import("node:crypto").JsonWebKey, format: "jwk" });
  const pem = key.export({ type: "pkcs8", format: "pem" }).toString();
  const spki = publicKeyOf(numberOf(n), e);
  return { pem, spki, bits: e.toString(2).length };
}

/** SubjectPublicKeyInfo of any two numbers. */
function publicKeyOf(modulus: bigint, exponent: bigint): Uint8Array {
  const element = (tag: number, contents: Buffer): Buffer => {
    const size = Buffer.from([contents.length >> 8, contents.length & 0xff]);
    return Buffer.concat([
      Buffer.from(contents.length < 0x80 ? [tag, contents.length] : [tag, 0x82, ...size]),
      contents,
    ]);
  };
  const integer = (number: bigint): Buffer => {
    const digits = number.toString(16);
    const octets = Buffer.from(digits.padStart(digits.length + (digits.length % 2), "0"), "hex");
    return element(0x02, (octets[0] ?? 0) < 0x80 ? octets : Buffer.concat([Buffer.of(0), octets]));
  };
  const key = element(0x30, Buffer.concat([integer(modulus), integer(exponent)]));
  const rsaEncryption = Buffer.from("300d06092a864886f70d0101010500", "hex");
  const bits = element(0x03, Buffer.concat([Buffer.of(0), key]));
  return new Uint8Array(element(0x30, Buffer.concat([rsaEncryption, bits])));
}

describe("a key with a public exponent that nobody uses", () => {
  const { pem, spki, bits } = swappedKey();

  test("neither signs nor gets a certificate", async () => {
    const error = errorOf(() => pemSigner(pem));
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_KEY_UNSUPPORTED",
      `expected an odd public exponent of 3 to 4294967296, got one of ${bits} bits`,
    ]);
    expect((await rejectionOf(testCertificate("swapped", { publicKey: spki }))).code).toBe("UKI_SIGN_KEY_UNSUPPORTED");
  });

  test("verifies nothing", async () => {
    const certificate = await testCertificate("plain");
    const swapped = { ...certificate, publicKey: spki };
    expect(errorOf(() => certificateKey(swapped)).code).toBe("UKI_SIGN_KEY_UNSUPPORTED");
    expect(isSignedBy(certificate, swapped)).toBe(false);
    const signature = {
      bank: "sha256",
      pcrs: [11],
      keyFingerprint: "",
      policy: new Uint8Array(32),
      signature: new Uint8Array(256),
    } as const;
    expect(errorOf(() => verifyPcrSignature(signature, spki)).code).toBe("UKI_SIGN_KEY_UNSUPPORTED");
  });

  test.each([
    [1n, "1"],
    [2n, "2"],
    [65_536n, "65536"],
    [2n ** 32n + 1n, "one of 33 bits"],
  ])("is refused with %s", async (exponent, actual) => {
    const certificate = { ...(await testCertificate("plain")), publicKey: publicKeyOf(2n ** 2047n + 1n, exponent) };
    const error = errorOf(() => certificateKey(certificate));
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_KEY_UNSUPPORTED",
      expect.stringMatching(new RegExp(`got ${actual}$|usable RSA public key`)),
    ]);
  });

  test.each([3n, 17n, 65_537n, 2n ** 32n - 1n])("is accepted with %s", async (exponent) => {
    const certificate = { ...(await testCertificate("plain")), publicKey: publicKeyOf(2n ** 2047n + 1n, exponent) };
    expect(certificateKey(certificate).asymmetricKeyDetails?.publicExponent).toBe(exponent);
  });
});

test("a chain is given up when too many certificates of one name have to be compared", async () => {
  // Each of the right ones is reached, and each is then compared with every wrong one: the product of both.
  const named = (key: string, serialNumber: bigint) =>
    testCertificate(key, { subject: { commonName: "hare" }, serialNumber, isCa: true });
  const half = Math.ceil(Math.sqrt(DEFAULT_MAX_CHAIN_SIGNATURES)) + 1;
  const numbers = Array.from({ length: half }, (_, index) => BigInt(index + 1));
  const right = await Promise.all(numbers.map((number) => named("right", number)));
  const wrong = await Promise.all(numbers.map((number) => named("wrong", number)));
  const [first] = right;
  if (first === undefined) throw new Error("no certificate was made");
  const error = errorOf(() => verifyChain(first, { trusted: [], intermediates: [...wrong, ...right] }));
  expect([error.code, error.message]).toEqual([
    "UKI_SIGN_TOO_LARGE",
    "expected chains with at most 256 signatures to check, got more",
  ]);
  // The same certificates with the trusted one among them: the way is found before.
  expect(verifyChain(first, { trusted: [first], intermediates: [...wrong, ...right] })).toEqual([first]);
  expect(testSigner("right").keyBits).toBe(2048);
});
