import { KEY_ROLES, type KeyRole, type KeySet } from "../../src/index.ts";
import { testCertificate } from "./certificates.ts";
import { testSigner } from "./keys.ts";

/** A key hierarchy of test keys, without any files. */
export async function testKeySet(name: string, owner = "01020304-0506-0708-090a-0b0c0d0e0f10"): Promise<KeySet> {
  const certificates: Partial<Record<KeyRole, KeySet["certificates"][KeyRole]>> = {};
  const signers: Partial<Record<KeyRole, KeySet["signers"][KeyRole]>> = {};
  for (const role of KEY_ROLES) {
    signers[role] = testSigner(`${name} ${role}`);
    certificates[role] = await testCertificate(`${name} ${role}`);
  }
  return {
    directory: "",
    owner,
    certificates: certificates as KeySet["certificates"],
    signers: signers as KeySet["signers"],
    exposedPaths: [],
  };
}
