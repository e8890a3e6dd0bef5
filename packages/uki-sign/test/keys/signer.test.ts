import { constants, createHash, generateKeyPairSync, publicDecrypt, verify } from "node:crypto";
import { describe, expect, test } from "vitest";
import { encodeDigestInfo, pemSigner } from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";
import { testKey } from "../support/keys.ts";

const { privateKey, publicKey } = testKey();
const pkcs8 = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
const pkcs1 = privateKey.export({ type: "pkcs1", format: "pem" }).toString();
const cipher = "aes-256-cbc";
const encryptedPkcs8 = privateKey.export({ type: "pkcs8", format: "pem", cipher, passphrase: "hare" }).toString();
const encryptedPkcs1 = privateKey.export({ type: "pkcs1", format: "pem", cipher, passphrase: "hare" }).toString();

describe("pemSigner", () => {
  test.each([
    ["PKCS#8", pkcs8, undefined],
    ["PKCS#1", pkcs1, undefined],
    ["encrypted PKCS#8", encryptedPkcs8, "hare"],
    ["encrypted PKCS#1", encryptedPkcs1, "hare"],
    ["a key after comment lines", `Key of the hare\n${pkcs8}`, undefined],
  ])("signs with %s as OpenSSL verifies", async (_name, pem, passphrase) => {
    const signer = pemSigner(pem, { passphrase });
    expect(signer.keyBits).toBe(2048);
    for (const hash of ["sha256", "sha384", "sha512"] as const) {
      const message = Buffer.from("leveret");
      const signature = await signer.signDigest(hash, createHash(hash).update(message).digest());
      expect(verify(hash, message, publicKey, signature)).toBe(true);
      const block = publicDecrypt({ key: publicKey, padding: constants.RSA_PKCS1_PADDING }, signature);
      expect(new Uint8Array(block)).toEqual(encodeDigestInfo(hash, createHash(hash).update(message).digest()));
    }
  });

  test("gives the public key as SubjectPublicKeyInfo", () => {
    expect(pemSigner(pkcs8).publicKey).toEqual(new Uint8Array(publicKey.export({ type: "spki", format: "der" })));
  });

  const body = pkcs8.split("\n").slice(1, -2);
  const rsa1024 = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey;
  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const pss = generateKeyPairSync("rsa-pss", { modulusLength: 2048 }).privateKey;
  test.each([
    ["nothing", "", undefined, "UKI_SIGN_KEY_INVALID"],
    ["DER", privateKey.export({ type: "pkcs8", format: "der" }), undefined, "UKI_SIGN_KEY_INVALID"],
    ["a public key", publicKey.export({ type: "spki", format: "pem" }), undefined, "UKI_SIGN_KEY_INVALID"],
    ["a damaged body", pkcs8.replace(body[3] ?? "", ""), undefined, "UKI_SIGN_KEY_INVALID"],
    ["an OpenSSH key", pkcs8.replaceAll("PRIVATE", "OPENSSH PRIVATE"), undefined, "UKI_SIGN_KEY_INVALID"],
    ["EC in PKCS#8", ec.export({ type: "pkcs8", format: "pem" }), undefined, "UKI_SIGN_KEY_UNSUPPORTED"],
    ["EC in SEC1", ec.export({ type: "sec1", format: "pem" }), undefined, "UKI_SIGN_KEY_UNSUPPORTED"],
    ["RSA-PSS", pss.export({ type: "pkcs8", format: "pem" }), undefined, "UKI_SIGN_KEY_UNSUPPORTED"],
    ["RSA of 1024 bits", rsa1024.export({ type: "pkcs8", format: "pem" }), undefined, "UKI_SIGN_KEY_UNSUPPORTED"],
    ["no passphrase, PKCS#8", encryptedPkcs8, undefined, "UKI_SIGN_PASSPHRASE"],
    ["no passphrase, PKCS#1", encryptedPkcs1, undefined, "UKI_SIGN_PASSPHRASE"],
    ["the wrong passphrase, PKCS#8", encryptedPkcs8, "rabbit", "UKI_SIGN_PASSPHRASE"],
    ["the wrong passphrase, PKCS#1", encryptedPkcs1, "rabbit", "UKI_SIGN_PASSPHRASE"],
  ])("refuses %s without a byte of the key in the error", (_name, pem, passphrase, code) => {
    const error = errorOf(() => pemSigner(pem, { passphrase }));
    expect(error.code).toBe(code);
    expect(error.cause).toBeUndefined();
    const text = `${error.message} ${JSON.stringify(error)}`;
    for (const line of body) expect(text).not.toContain(line.slice(0, 12));
    expect(text).not.toContain("rabbit");
  });

  test("refuses a digest of another length", async () => {
    await expect(pemSigner(pkcs8).signDigest("sha256", new Uint8Array(20))).rejects.toThrow(
      new TypeError("expected a sha256 digest of 32 bytes, got 20"),
    );
  });
});
