import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  certificateLists,
  decodeAuthenticatedVariable,
  decodeSignatureLists,
  decodeVariableStore,
  encodePem,
  encodeSignatureLists,
  enrollVariableStore,
  signVariable,
  verifyVariable,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { OVMF_ENROLLED } from "../support/firmware.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeOptional, describeWith, run, scratch } from "../support/oracles.ts";
import { emptyStore } from "../support/variable-store.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const timestamp = new Date("2026-11-21T01:02:03Z");
const certificate = await testCertificate();
const kek = await testCertificate("kek");
const list = encodeSignatureLists(certificateLists([certificate], OWNER));

/** A directory with a certificate, a KEK with its key, and a signature list made here. */
function workspace(): string {
  const folder = scratch();
  writeFileSync(join(folder, "db.pem"), encodePem("CERTIFICATE", certificate.der));
  writeFileSync(join(folder, "kek.pem"), encodePem("CERTIFICATE", kek.der));
  writeFileSync(join(folder, "kek.key"), testPem("kek"));
  writeFileSync(join(folder, "ours.esl"), list);
  return folder;
}

const read = (folder: string, name: string): Uint8Array => new Uint8Array(readFileSync(join(folder, name)));
const sign = (append: boolean): Promise<Uint8Array> =>
  signVariable({ name: "db", append, data: list, timestamp, signer: testSigner("kek"), certificate: kek });

describeWith("efitools", ["cert-to-efi-sig-list", "sign-efi-sig-list", "sig-list-to-certs"], [], () => {
  test("makes the same signature list, byte for byte", () => {
    const cwd = workspace();
    run("cert-to-efi-sig-list", ["-g", OWNER, "db.pem", "theirs.esl"], cwd);
    expect(read(cwd, "theirs.esl")).toEqual(list);
  });

  test("reads the certificate in our signature list", () => {
    const cwd = workspace();
    run("sig-list-to-certs", ["ours.esl", "out"], cwd);
    expect(read(cwd, "out-0.der")).toEqual(certificate.der);
  });

  test.each([[[]], [["-a"]]])("signs variables that are verified here, with options %j", async (options) => {
    const cwd = workspace();
    const when = ["-t", "2026-11-21 01:02:03"];
    run("sign-efi-sig-list", [...options, ...when, "-k", "kek.key", "-c", "kek.pem", "db", "ours.esl", "theirs"], cwd);
    const theirs = read(cwd, "theirs");
    const append = options.length > 0;
    expect(verifyVariable(theirs, { name: "db", append, trusted: [kek] })).toMatchObject({ timestamp, data: list });
    // RSA PKCS#1 v1.5 is deterministic, so the same content has the same signature.
    const signatureOf = (bytes: Uint8Array) => Buffer.from(decodeAuthenticatedVariable(bytes).signature.subarray(-256));
    expect(signatureOf(await sign(append)).equals(signatureOf(theirs))).toBe(true);
  });
});

describeWith("sbsigntool", ["sbsiglist", "sbvarsign"], [], () => {
  test("makes the same signature list, and variables that are verified here", () => {
    const cwd = workspace();
    writeFileSync(join(cwd, "db.der"), certificate.der);
    run("sbsiglist", ["--owner", OWNER, "--type", "x509", "--output", "theirs.esl", "db.der"], cwd);
    expect(read(cwd, "theirs.esl")).toEqual(list);
    run("sbvarsign", ["--key", "kek.key", "--cert", "kek.pem", "--output", "theirs", "db", "ours.esl"], cwd);
    expect(verifyVariable(read(cwd, "theirs"), { name: "db", append: true, trusted: [kek] }).data).toEqual(list);
  });
});

describeWith("the stores that firmware wrote for Debian", [], OVMF_ENROLLED, () => {
  test.each(OVMF_ENROLLED)("%s is read, keys and all", (path) => {
    const { variables } = decodeVariableStore(readFileSync(path));
    const types = (wanted: string) =>
      decodeSignatureLists(variables.find(({ name }) => name === wanted)?.data ?? new Uint8Array()).map(
        ({ type }) => type,
      );
    expect(types("PK")).toEqual(["x509"]);
    expect(types("dbx")).toEqual(["sha256"]);
    expect(new Set(types("db"))).toEqual(new Set(["x509"]));
  });
});

// Debian has virt-firmware from release 13 on only, so its absence is no failure.
describeOptional("virt-fw-vars", ["virt-fw-vars"], () => {
  test.each([
    ["528 KiB", { sizeBytes: 0x84000, storeBytes: 0x3ffb8 }],
    ["128 KiB", { sizeBytes: 0x20000, storeBytes: 0xdfb8 }],
  ])("reads what is enrolled in a store of %s", (_name, layout) => {
    const cwd = scratch();
    const options = { pk: kek, kek: [kek], db: [certificate], owner: OWNER, timestamp };
    writeFileSync(join(cwd, "vars.fd"), enrollVariableStore(emptyStore(layout), options));
    const text = run("virt-fw-vars", ["--input", "vars.fd", "--print", "--verbose"], cwd);
    expect(text).toMatch(/name=SecureBootEnable .*\n {2}bool: ON/);
    expect(text).toMatch(
      /name=db .* time=2026-11-21 01:02:03\+00:00\n {2}siglist .*count=1\n {4}subject CN=leveret default/,
    );
    expect(text).toMatch(/name=PK .*\n.*\n {4}subject CN=leveret kek/);
  });
});
