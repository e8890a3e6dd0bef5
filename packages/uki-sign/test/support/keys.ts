import { generateKeyPairSync, type KeyPairKeyObjectResult } from "node:crypto";
import { type PemSigner, pemSigner } from "../../src/index.ts";

const keys = new Map<string, KeyPairKeyObjectResult>();

/** An RSA key pair, made once per name in a test run. */
export function testKey(name = "default", modulusLength = 2048): KeyPairKeyObjectResult {
  const made = keys.get(name) ?? generateKeyPairSync("rsa", { modulusLength });
  keys.set(name, made);
  return made;
}

/** The private key of {@link testKey} as PEM. */
export function testPem(name = "default", modulusLength = 2048): string {
  return testKey(name, modulusLength).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** A signer with {@link testKey}. */
export function testSigner(name = "default", modulusLength = 2048): PemSigner {
  return pemSigner(testPem(name, modulusLength));
}
