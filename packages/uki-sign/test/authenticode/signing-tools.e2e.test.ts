import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  type Certificate,
  decodeCertificate,
  decodePe,
  encodePem,
  listSignatures,
  removeSignatures,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf } from "../support/errors.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { fill, testPe, testStub } from "../support/pe.ts";

const NAMES = ["owner", "stranger"] as const;
const owner = await testCertificate("owner");
const stranger = await testCertificate("stranger");
const sign = (image: Uint8Array, name: (typeof NAMES)[number] = "owner") =>
  signPe(image, {
    signer: testSigner(name),
    certificate: name === "owner" ? owner : stranger,
    signingTime: new Date("2026-06-01T00:00:00Z"),
  });

const IMAGES: [string, Uint8Array][] = [
  ["a small image", testPe()],
  ["an image of a size that is no multiple of 8", Uint8Array.of(...testPe(), 1, 2, 3)],
  ["a stub", testStub()],
  ["an image of 3 MiB", testPe({ sections: [{ name: ".text", data: fill(3 << 20, 0x90) }] })],
];

/** A directory with keys and certificates of both names, and the given files. */
function workspace(files: Record<string, Uint8Array>): string {
  const folder = scratch();
  for (const [name, certificate] of [
    ["owner", owner],
    ["stranger", stranger],
  ] as const) {
    writeFileSync(join(folder, `${name}.key`), testPem(name));
    writeFileSync(join(folder, `${name}.pem`), encodePem("CERTIFICATE", certificate.der));
  }
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes);
  return folder;
}

function tampered(image: Uint8Array): Uint8Array {
  const copy = image.slice();
  const at = (decodePe(image).sections[0]?.rawOffset ?? 0) + 1;
  copy[at] = (copy[at] ?? 0) ^ 0x10;
  return copy;
}

describeWith("sbverify", ["sbverify"], [], () => {
  test.each(IMAGES)("accepts our signature of %s", async (_name, image) => {
    const cwd = workspace({ "signed.efi": await sign(image) });
    expect(run("sbverify", ["--cert", "owner.pem", "signed.efi"], cwd)).toMatch(/Signature verification OK/);
  });

  test("refuses it for another certificate and for a changed image", async () => {
    const signed = await sign(testPe());
    const cwd = workspace({ "signed.efi": signed, "tampered.efi": tampered(signed) });
    expect(() => run("sbverify", ["--cert", "stranger.pem", "signed.efi"], cwd)).toThrow();
    expect(() => run("sbverify", ["--cert", "owner.pem", "tampered.efi"], cwd)).toThrow();
  });

  test("accepts both of two signatures, and the other one after the first is removed", async () => {
    const both = await sign(await sign(testPe()), "stranger");
    const cwd = workspace({ "both.efi": both, "second.efi": removeSignatures(both, 0) });
    for (const name of NAMES) {
      expect(run("sbverify", ["--cert", `${name}.pem`, "both.efi"], cwd)).toMatch(/OK/);
    }
    expect(run("sbverify", ["--cert", "stranger.pem", "second.efi"], cwd)).toMatch(/OK/);
    expect(() => run("sbverify", ["--cert", "owner.pem", "second.efi"], cwd)).toThrow();
  });
});

describeWith("sbsign", ["sbsign"], [], () => {
  const sbsign = (name: string, source: string, target: string) => [
    ...["--key", `${name}.key`],
    ...["--cert", `${name}.pem`],
    ...["--output", target],
    source,
  ];

  test.each(IMAGES)("makes signatures of %s that we accept", (_name, image) => {
    const cwd = workspace({ "image.efi": image });
    run("sbsign", sbsign("owner", "image.efi", "signed.efi"), cwd);
    const signed = new Uint8Array(readFileSync(join(cwd, "signed.efi")));
    expect(verifyPe(signed, { db: { certificates: [owner] } }).signer?.certificate.subject).toBe("CN=leveret owner");
    const refused = (file: Uint8Array, certificate: typeof owner) =>
      errorOf(() => verifyPe(file, { db: { certificates: [certificate] } })).code;
    expect(refused(signed, stranger)).toBe("UKI_SIGN_UNTRUSTED");
    expect(refused(tampered(signed), owner)).toBe("UKI_SIGN_DIGEST_MISMATCH");
  });

  test("and this package sign one after the other, in either order", async () => {
    const cwd = workspace({ "ours.efi": await sign(testPe()), "image.efi": testPe() });
    run("sbsign", sbsign("stranger", "ours.efi", "ours-theirs.efi"), cwd);
    run("sbsign", sbsign("stranger", "image.efi", "theirs.efi"), cwd);
    const theirs = new Uint8Array(readFileSync(join(cwd, "theirs.efi")));
    writeFileSync(join(cwd, "theirs-ours.efi"), await sign(theirs));
    for (const file of ["ours-theirs.efi", "theirs-ours.efi"]) {
      const image = new Uint8Array(readFileSync(join(cwd, file)));
      expect(listSignatures(image)).toHaveLength(2);
      for (const certificate of [owner, stranger]) verifyPe(image, { db: { certificates: [certificate] } });
    }
  });
});

describeWith("sbsign and openssl", ["sbsign", "openssl"], [], () => {
  /** A chain made by openssl, the end first, each certificate with the extensions given for it. */
  function chain(cwd: string, extensions: readonly string[]): Certificate[] {
    extensions.forEach((lines, at) => {
      const request = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", `${at}.key`, "-subj", `/CN=hare ${at}`];
      const above =
        at === 0 ? ["-signkey", "0.key"] : ["-CA", `${at - 1}.pem`, "-CAkey", `${at - 1}.key`, "-CAcreateserial"];
      writeFileSync(join(cwd, "extensions"), lines);
      run("openssl", [...request, "-out", "request"], cwd);
      // Without extensions, openssl makes certificates of version 1.
      const more = lines === "" ? [] : ["-extfile", "extensions"];
      run("openssl", ["x509", "-req", "-in", "request", "-out", `${at}.pem`, "-days", "30", ...above, ...more], cwd);
    });
    return extensions.map((_, at) => decodeCertificate(readFileSync(join(cwd, `${at}.pem`)))).reverse();
  }

  const CA = "basicConstraints=critical,CA:TRUE";
  const LEAF = "basicConstraints=CA:FALSE";
  test.each<[string, string[]]>([
    [
      "with critical name constraints",
      [`${CA}\nnameConstraints=critical,permitted;dirName:names\n[names]\nCN=hare`, LEAF],
    ],
    ["with critical policies", [`${CA}\ncertificatePolicies=critical,1.2.3.4`, LEAF]],
    ["of version 1", ["", LEAF]],
    ["that is no CA", [LEAF, LEAF]],
    ["nine certificates up", [...Array.from({ length: 8 }, () => CA), LEAF]],
  ])("an image is refused by an issuer in dbx %s", (_name, extensions) => {
    const cwd = workspace({ "image.efi": testPe() });
    const certificates = chain(cwd, extensions);
    const last = certificates.length - 1;
    const between = certificates.slice(1, -1).map((each) => encodePem("CERTIFICATE", each.der));
    writeFileSync(join(cwd, "between.pem"), between.join(""));
    const keys = ["--key", `${last}.key`, "--cert", `${last}.pem`];
    const more = between.length === 0 ? [] : ["--addcert", "between.pem"];
    run("sbsign", [...keys, ...more, "--output", "signed.efi", "image.efi"], cwd);
    const signed = new Uint8Array(readFileSync(join(cwd, "signed.efi")));
    const db = { certificates: certificates.slice(0, 1) };
    expect(verifyPe(signed, { db }).signature).toBe(0);
    for (const forbidden of certificates) {
      expect(errorOf(() => verifyPe(signed, { db, dbx: { certificates: [forbidden] } })).code).toBe("UKI_SIGN_REVOKED");
    }
  });
});

describeWith("osslsigncode", ["osslsigncode"], [], () => {
  test.each(["sha256", "sha384", "sha512"] as const)("accepts our %s signatures, and we its", async (hash) => {
    const ours = await signPe(testPe(), { signer: testSigner("owner"), certificate: owner, hash });
    const cwd = workspace({ "ours.efi": ours, "image.efi": testPe() });
    // Its time stamps and revocation lists have no place in Secure Boot.
    const verify = ["verify", "-ignore-timestamp", "-ignore-cdp", "-CAfile", "owner.pem", "-in", "ours.efi"];
    expect(run("osslsigncode", verify, cwd)).toMatch(/Signature verification: ok/);
    const files = ["-key", "owner.key", "-certs", "owner.pem", "-in", "image.efi", "-out", "theirs.efi"];
    run("osslsigncode", ["sign", "-h", hash, ...files], cwd);
    const theirs = new Uint8Array(readFileSync(join(cwd, "theirs.efi")));
    expect(verifyPe(theirs, { db: { certificates: [owner] } }).signer?.hash).toBe(hash);
  });
});
