import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  decodeCertificate,
  encodePem,
  pemSigner,
  signCms,
  signRootHash,
  verifyChain,
  verifyCms,
} from "../src/index.ts";
import { testCertificate } from "./support/certificates.ts";
import { testPem, testSigner } from "./support/keys.ts";
import { describeWith, run, scratch } from "./support/oracles.ts";

const signer = testSigner();
const certificate = await testCertificate();
const rootHash = "ab".repeat(32);

/** A directory with the test key, its certificate and the hex text of a root hash, without a newline. */
function workspace(): string {
  const folder = scratch();
  writeFileSync(join(folder, "key.pem"), testPem());
  writeFileSync(join(folder, "cert.pem"), encodePem("CERTIFICATE", certificate.der));
  writeFileSync(join(folder, "content"), rootHash);
  return folder;
}

describeWith("openssl", ["openssl"], [], () => {
  test("makes the same root hash signature, byte for byte", async () => {
    const cwd = workspace();
    const sign = "smime -sign -binary -noattr -nocerts -md sha256 -in content -inkey key.pem -signer cert.pem";
    run("openssl", [...sign.split(" "), "-outform", "DER", "-out", "p7s"], cwd);
    expect(await signRootHash(rootHash, { signer, certificate })).toEqual(
      new Uint8Array(readFileSync(join(cwd, "p7s"))),
    );
  });

  test.each(["smime", "cms"])("verifies our root hash signature with %s", async (command) => {
    const cwd = workspace();
    writeFileSync(join(cwd, "p7s"), await signRootHash(rootHash, { signer, certificate }));
    const verify = "-verify -binary -inform DER -in p7s -content content -certfile cert.pem -nointern -noverify";
    expect(run("openssl", [command, ...verify.split(" ")], cwd)).toBe(rootHash);
  });

  test.each(["sha256", "sha384", "sha512"] as const)("and this package agree on RSASSA-PSS with %s", async (hash) => {
    const cwd = workspace();
    const content = new TextEncoder().encode(rootHash);
    writeFileSync(join(cwd, "ours"), await signCms({ content, hash, padding: "pss", signer, certificate }));
    const verify = "cms -verify -binary -inform DER -in ours -CAfile cert.pem -purpose any";
    expect(run("openssl", verify.split(" "), cwd)).toBe(rootHash);
    for (const salt of ["digest", "max", "7"]) {
      const sign = `cms -sign -binary -nodetach -md ${hash} -in content -inkey key.pem -signer cert.pem -outform DER`;
      const pss = ["rsa_padding_mode:pss", `rsa_pss_saltlen:${salt}`].flatMap((option) => ["-keyopt", option]);
      run("openssl", [...sign.split(" "), ...pss, "-out", "theirs"], cwd);
      const theirs = verifyCms(readFileSync(join(cwd, "theirs")), { trusted: [certificate] });
      expect(theirs.signers[0]).toMatchObject({ hash, padding: "pss" });
    }
  });

  for (const hash of ["sha256", "sha384", "sha512"] as const) {
    for (const detached of [true, false]) {
      for (const attributes of ["none", []] as const) {
        test(`and this package agree on ${hash}, detached ${detached}, attributes ${JSON.stringify(attributes)}`, async () => {
          const cwd = workspace();
          const content = new TextEncoder().encode(rootHash);
          const signingTime = attributes === "none" ? undefined : new Date("2026-06-01T00:00:00Z");
          const ours = await signCms({ content, hash, detached, attributes, signer, certificate, signingTime });
          writeFileSync(join(cwd, "ours"), ours);
          const verify = [
            "-verify",
            "-binary",
            "-inform",
            "DER",
            "-in",
            "ours",
            "-CAfile",
            "cert.pem",
            "-purpose",
            "any",
          ];
          expect(run("openssl", ["cms", ...verify, ...(detached ? ["-content", "content"] : [])], cwd)).toBe(rootHash);

          const sign = [
            "cms",
            "-sign",
            "-binary",
            "-md",
            hash,
            "-in",
            "content",
            "-inkey",
            "key.pem",
            "-signer",
            "cert.pem",
          ];
          const form = [...(detached ? [] : ["-nodetach"]), ...(attributes === "none" ? ["-noattr"] : [])];
          run("openssl", [...sign, ...form, "-outform", "DER", "-out", "theirs"], cwd);
          const theirs = new Uint8Array(readFileSync(join(cwd, "theirs")));
          const verified = verifyCms(theirs, { trusted: [certificate], ...(detached ? { content } : {}) });
          expect(verified.signers[0]?.hash).toBe(hash);
        });
      }
    }
  }

  test("makes keys and certificates that are read here, and reads ours", async () => {
    const cwd = workspace();
    const request = "req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 365 -subj";
    run("openssl", [...request.split(" "), "/C=DE/O=Example, Inc./CN=theirs"], cwd);
    const theirs = decodeCertificate(readFileSync(join(cwd, "c.pem")));
    expect(theirs.subject).toBe("CN=theirs,O=Example\\, Inc.,C=DE");
    expect(verifyChain(theirs, { trusted: [theirs], at: new Date() })).toEqual([theirs]);

    const key = pemSigner(readFileSync(join(cwd, "k.pem")));
    const root = await testCertificate("root", { isCa: true });
    const leaf = await testCertificate("leaf", {
      publicKey: key.publicKey,
      signer: testSigner("root"),
      issuer: root,
      serialNumber: 2n,
      extendedKeyUsage: ["1.3.6.1.5.5.7.3.3"],
    });
    writeFileSync(join(cwd, "root.pem"), encodePem("CERTIFICATE", root.der));
    writeFileSync(join(cwd, "leaf.pem"), encodePem("CERTIFICATE", leaf.der));
    expect(run("openssl", ["verify", "-x509_strict", "-CAfile", "root.pem", "leaf.pem"], cwd)).toBe("leaf.pem: OK\n");
    const text = run("openssl", ["x509", "-in", "leaf.pem", "-noout", "-text"], cwd);
    expect(text).toContain("Code Signing");
    expect(text).toContain("Digital Signature");
    expect(text).toContain("CA:FALSE");
  });

  test.each(["-aes256", "-des3"])("encrypts keys with %s that are read here", (cipher) => {
    const cwd = workspace();
    writeFileSync(join(cwd, "pass"), "hare\n");
    run(
      "openssl",
      ["pkcs8", "-topk8", "-in", "key.pem", "-v2", cipher.slice(1), "-passout", "file:pass", "-out", "p8"],
      cwd,
    );
    run("openssl", ["rsa", "-traditional", cipher, "-in", "key.pem", "-passout", "file:pass", "-out", "p1"], cwd);
    for (const file of ["p8", "p1"]) {
      const made = pemSigner(readFileSync(join(cwd, file)), { passphrase: "hare" });
      expect(made.publicKey).toEqual(signer.publicKey);
    }
  });
});
