import { constants, createHash, sign, verify } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Certificate, decodeCertificate, isSignedBy, verifyChain } from "../../src/index.ts";
import { schemeOf } from "../../src/rsa/scheme.ts";
import { verifyDigest } from "../../src/rsa/verify.ts";
import { testCertificate } from "../support/certificates.ts";
import { torture } from "../support/errors.ts";
import { testKey, testSigner } from "../support/keys.ts";

const HASHES = ["sha256", "sha384", "sha512"] as const;
// Of 2049 bits an encoded message has as many octets as the modulus less one, of 2050 bits again all of them.
const SIZES = [2048, 2049, 2050, 3072];
const data = new TextEncoder().encode("leveret");
const digestOf = (hash: string) => new Uint8Array(createHash(hash).update(data).digest());
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING };

describe.each(SIZES)("RSASSA-PSS with a key of %i bits", (bits) => {
  const { publicKey, privateKey } = testKey(`pss ${bits}`, bits);

  test.each(HASHES)("is what OpenSSL verifies, with %s", async (hash) => {
    const signature = await testSigner(`pss ${bits}`, bits).signDigest(hash, digestOf(hash), "pss");
    const { saltBytes } = schemeOf(hash, "pss");
    expect(verify(hash, data, { key: publicKey, ...PSS, saltLength: saltBytes }, signature)).toBe(true);
    expect(verifyDigest(publicKey, schemeOf(hash, "pss"), digestOf(hash), signature)).toBe(true);
  });

  test.each(HASHES)("verifies what OpenSSL signs, with %s and any salt", (hash) => {
    for (const saltLength of [0, 20, 32, 100]) {
      const signature = sign(hash, data, { key: privateKey, ...PSS, saltLength });
      const verified = (saltBytes: number, digest = digestOf(hash)) =>
        verifyDigest(publicKey, { hash, padding: "pss", saltBytes }, digest, signature);
      expect(verified(saltLength)).toBe(true);
      expect([
        verified(saltLength + 1),
        verified(4096),
        verified(saltLength, new Uint8Array(digestOf(hash).length)),
      ]).toEqual([false, false, false]);
    }
  });

  test("refuses every signature with one byte changed, and a PKCS#1 signature", async () => {
    const scheme = schemeOf("sha256", "pss");
    const signer = testSigner(`pss ${bits}`, bits);
    const signature = await signer.signDigest("sha256", digestOf("sha256"), "pss");
    for (let at = 0; at < signature.length; at += 7) {
      const changed = signature.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(verifyDigest(publicKey, scheme, digestOf("sha256"), changed)).toBe(false);
    }
    const other = await signer.signDigest("sha256", digestOf("sha256"));
    expect(verifyDigest(publicKey, scheme, digestOf("sha256"), other)).toBe(false);
  });
});

describe("certificates signed with RSASSA-PSS", () => {
  const issued = async (hash: (typeof HASHES)[number]): Promise<[Certificate, Certificate]> => {
    const root = await testCertificate("root", { isCa: true, padding: "pss", hash });
    const leaf = await testCertificate("leaf", { signer: testSigner("root"), issuer: root, padding: "pss", hash });
    return [root, leaf];
  };

  test.each(HASHES)("lead to their issuer, with %s", async (hash) => {
    const [root, leaf] = await issued(hash);
    expect(leaf.signatureScheme).toEqual(schemeOf(hash, "pss"));
    expect(verifyChain(leaf, { trusted: [root] })).toEqual([leaf, root]);
    expect(isSignedBy(leaf, leaf)).toBe(false);
  });

  test("let only the package's error escape when damaged", async () => {
    const [root, leaf] = await issued("sha256");
    torture(leaf.der, (bytes) => isSignedBy(decodeCertificate(bytes), root));
  });
});
