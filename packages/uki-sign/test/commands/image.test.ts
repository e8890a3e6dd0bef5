import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  decodePe,
  encodePem,
  encodeSignatureDatabase,
  encodeSignatureLists,
  inspectUki,
  parsePcrSignatures,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { cliWorkspace } from "../support/cli.ts";
import { testKey, testPem } from "../support/keys.ts";
import { bytes, fill, SBAT, testKernel, testStub } from "../support/pe.ts";

const owner = await testCertificate("owner");
const stranger = await testCertificate("stranger");
const FILES = {
  stub: testStub(),
  linux: testKernel("6.12"),
  initrd: fill(700, 7),
  "os-release": "ID=leveret\n",
  "db.key": testPem("owner"),
  "db.pem": encodePem("CERTIFICATE", owner.der),
  "db.der": owner.der,
  "other.pem": encodePem("CERTIFICATE", stranger.der),
};
const BUILD = ["build", "--stub", "stub", "--linux", "linux", "--cmdline", "quiet", "-o", "linux.efi"];
const SIGN = ["--key", "db.key", "--certificate", "db.pem"];

/** A workspace in which `linux.efi` is built and signed. */
async function signed() {
  const workspace = cliWorkspace(FILES);
  await workspace.run(...BUILD, ...SIGN, "--signing-time", "2026-06-01T00:00:00Z");
  return workspace;
}

describe("uki-sign build", () => {
  test("builds an image of all its flags", async () => {
    const { folder, run } = cliWorkspace({ ...FILES, "more.sbat": `${SBAT}leveret,1\n`, tree: fill(9, 1) });
    const result = await run(
      ...BUILD,
      ...["--initrd", "initrd", "--initrd", "initrd", "--os-release", "@os-release", "--uname", "6.12-x"],
      ...["--sbat", "@more.sbat", "--profile", "ID=main", "--splash", "initrd", "--dtb", "tree", "--ucode", "initrd"],
      ...["--dtbauto", "tree", "--dtbauto", "tree", "--hwids", "tree", "--pcrpkey", "db.pem", "--pcrsig", "os-release"],
      ...["--section", ".own=tree", "--time-date-stamp", "0"],
    );
    expect(result).toEqual({ exitCode: 0, stdout: "linux.efi: 23 KiB, 18 sections, unsigned\n", stderr: "" });
    const image = readFileSync(join(folder, "linux.efi"));
    expect(decodePe(image).timeDateStamp).toBe(0);
    const text = (name: string) => inspectUki(image).sections.find((section) => section.name === name)?.text;
    expect([text(".osrel"), text(".uname"), text(".profile")]).toEqual(["ID=leveret\n", "6.12-x", "ID=main"]);
    expect(text(".sbat")).toMatch(/\nleveret,1\n$/);
  });

  test("signs when given key and certificate, and says so in its document", async () => {
    const { run } = cliWorkspace(FILES);
    const { exitCode, stdout } = await run(...BUILD, ...SIGN, "--json");
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ kind: "uki-build", version: 1, path: "linux.efi", signatures: 1 });
  });

  test("takes the passphrase of an encrypted key from a file", async () => {
    const { privateKey } = testKey("owner");
    const encrypted = privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "hare" });
    const { run } = cliWorkspace({ ...FILES, "db.key": encrypted.toString(), pass: "hare\n", wrong: "fox\n" });
    expect((await run(...BUILD, ...SIGN, "--passphrase-file", "pass")).exitCode).toBe(0);
    const { exitCode, stderr } = await run(...BUILD, ...SIGN, "--passphrase-file", "wrong");
    expect([exitCode, stderr.includes("UKI_SIGN_PASSPHRASE"), stderr.includes("fox")]).toEqual([1, true, false]);
  });

  test.each<[string, string[], number, RegExp]>([
    ["a missing file", ["--initrd", "nothing"], 1, /expected a file at .*, got none.*\[UKI_SIGN_FILE\]/],
    ["a kernel that is none", ["--linux", "os-release"], 1, /linux: expected a PE image.*\[UKI_SIGN_PE_BAD_MAGIC\]/],
    ["a foreign certificate", ["--key", "db.key", "--certificate", "other.pem"], 1, /\[UKI_SIGN_KEY_MISMATCH\]/],
    ["a key without certificate", ["--key", "db.key"], 2, /expected --key and --certificate together/],
    ["a time without key", ["--signing-time", "2026-06-01"], 2, /expected --keys or --key with/],
    ["two sorts of keys", ["--keys", "keys", ...SIGN], 2, /expected either --keys or --key/],
    ["a key hierarchy that is none", ["--keys", "keys"], 1, /\[UKI_SIGN_KEYS_INVALID\]/],
    ["a time that is none", [...SIGN, "--signing-time", "today"], 2, /expected a time like/],
    ["a number that is none", ["--time-date-stamp", "now"], 2, /expected a whole number, got "now"/],
    ["a section without file", ["--section", ".own"], 2, /expected --section NAME=FILE/],
  ])("refuses %s and writes nothing", async (_name, argv, code, message) => {
    const { folder, run } = cliWorkspace(FILES);
    const result = await run(...BUILD, ...argv);
    expect(result.exitCode).toBe(code);
    expect(result.stderr).toMatch(message);
    expect(readdirSync(folder).sort()).toEqual(Object.keys(FILES).sort());
  });

  test("leaves nothing half-written where it cannot write", async () => {
    const { folder, run } = cliWorkspace(FILES);
    const { exitCode, stderr } = await run(...BUILD.slice(0, -1), "no/such/folder/linux.efi");
    expect([exitCode, stderr.includes("UKI_SIGN_FILE")]).toEqual([1, true]);
    expect(readdirSync(folder)).toHaveLength(Object.keys(FILES).length);
  });
});

describe("uki-sign sign", () => {
  test("adds a signature and keeps those there are", async () => {
    const { run } = await signed();
    const { exitCode, stdout } = await run("sign", "linux.efi", ...SIGN, "-o", "linux.efi");
    expect([exitCode, stdout]).toEqual([0, "linux.efi: signed by CN=leveret owner, 2 signatures in all\n"]);
  });

  test("prints a document", async () => {
    const { run } = await signed();
    const { stdout } = await run("sign", "linux.efi", ...SIGN, "-o", "twice.efi", "--json");
    expect(JSON.parse(stdout)).toMatchObject({
      kind: "uki-sign",
      version: 1,
      signer: "CN=leveret owner",
      signatures: 2,
    });
  });

  test("uses db of a key hierarchy", async () => {
    const { run } = await signed();
    expect((await run("keys", "generate", "keys", "--name", "hare")).exitCode).toBe(0);
    const { exitCode, stdout } = await run("sign", "linux.efi", "--keys", "keys", "-o", "linux.efi");
    expect([exitCode, stdout]).toEqual([0, "linux.efi: signed by CN=hare db, 2 signatures in all\n"]);
    expect((await run("verify", "--certificate", "keys/db.crt", "linux.efi")).exitCode).toBe(0);
  });

  test("needs a key", async () => {
    const { run } = await signed();
    expect((await run("sign", "linux.efi", "-o", "x.efi")).exitCode).toBe(2);
  });
});

describe("uki-sign verify", () => {
  test("accepts a trusted signature, by certificate in PEM or DER", async () => {
    const { run } = await signed();
    const { exitCode, stdout } = await run("verify", "--certificate", "db.der", "linux.efi");
    expect([exitCode, stdout]).toEqual([0, "accepted: linux.efi, signature 0 by CN=leveret owner\n"]);
    const json = JSON.parse((await run("verify", "--certificate", "db.pem", "linux.efi", "--json")).stdout);
    expect(json).toMatchObject({ kind: "uki-verify", accepted: true, signingTime: "2026-06-01T00:00:00.000Z" });
    expect((await run("verify", "--digest", json.digest, "linux.efi")).stdout).toMatch(/db names its digest/);
  });

  test("says who refused and why", async () => {
    const { run } = await signed();
    const untrusted = await run("verify", "--certificate", "other.pem", "linux.efi");
    expect([untrusted.exitCode, untrusted.stderr.includes("UKI_SIGN_UNTRUSTED")]).toEqual([1, true]);
    const both = ["--certificate", "db.pem", "--forbid-certificate", "db.pem"];
    const revoked = await run("verify", ...both, "linux.efi", "--json");
    expect([revoked.exitCode, JSON.parse(revoked.stdout).code]).toEqual([1, "UKI_SIGN_REVOKED"]);
    const unsigned = await run("verify", "--certificate", "db.pem", "stub");
    expect([unsigned.exitCode, unsigned.stderr.includes("UKI_SIGN_UNSIGNED")]).toEqual([1, true]);
  });

  test("takes signature lists for db and dbx", async () => {
    const { run, folder } = await signed();
    const guid = "01020304-0506-0708-090a-0b0c0d0e0f10";
    writeFileSync(join(folder, "db.esl"), encodeSignatureDatabase([owner], guid));
    const tbsHash = createHash("sha256").update(owner.tbs).digest();
    const data = new Uint8Array(Buffer.concat([tbsHash, Buffer.alloc(16)]));
    const dbx = encodeSignatureLists([{ type: "x509Sha256", signatures: [{ owner: guid, data }] }]);
    writeFileSync(join(folder, "dbx.esl"), dbx);
    expect((await run("verify", "--db", "db.esl", "linux.efi")).exitCode).toBe(0);
    const revoked = await run("verify", "--db", "db.esl", "--dbx", "dbx.esl", "linux.efi");
    expect([revoked.exitCode, revoked.stderr.includes("UKI_SIGN_REVOKED")]).toEqual([1, true]);
  });

  test("needs to know what is trusted, in hexadecimal", async () => {
    const { run } = await signed();
    expect((await run("verify", "linux.efi")).exitCode).toBe(2);
    expect((await run("verify", "--digest", "xyz", "linux.efi")).exitCode).toBe(2);
  });
});

describe("uki-sign inspect", () => {
  test("shows sections, text and signers", async () => {
    const { run } = await signed();
    const { exitCode, stdout } = await run("inspect", "linux.efi");
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^linux\.efi: 14 KiB, machine 0x8664\n\nsection +size +sha256\n\.text +2\.9 KiB/);
    expect(stdout).toMatch(/\n\.cmdline\n {2}quiet\n/);
    expect(stdout).toMatch(
      /\nsigned by CN=leveret owner \([0-9a-f]{16}…, 2026-06-01T00:00:00.000Z\), trust not checked\n$/,
    );
  });

  test("prints a document", async () => {
    const { run } = await signed();
    const json = JSON.parse((await run("inspect", "linux.efi", "--json")).stdout);
    expect(json).toMatchObject({ kind: "uki-inspect", version: 1, signatures: [{ signer: "CN=leveret owner" }] });
    expect(json.sections.find(({ name }: { name: string }) => name === ".cmdline")).toMatchObject({ text: "quiet" });
  });

  test("never lets an image write to the terminal what it likes", async () => {
    const { run } = cliWorkspace({ ...FILES, profile: bytes("ID=\u001b[31mred\u202e\n") });
    await run(...BUILD, "--profile", "@profile");
    const { stdout } = await run("inspect", "linux.efi");
    expect(stdout).toContain("  ID=\\u{1b}[31mred\\u{202e}\n");
    expect(stdout).toMatch(/\nunsigned\n$/);
  });
});

describe("uki-sign measure", () => {
  test("shows policies and the digests to sign, or signs them", async () => {
    const { run, folder } = await signed();
    const shown = await run("measure", "--policy", "--bank", "sha256", "linux.efi");
    expect(shown.stdout).toMatch(/^phases +bank +policy\nenter-initrd +sha256 +[0-9a-f]{64}\n/);
    const flags = ["--bank", "sha256", "--phases", "enter-initrd", "linux.efi"];
    const document = JSON.parse((await run("measure", "--policy", "--json", ...flags)).stdout);
    expect(document).toMatchObject({ kind: "uki-pcr-policies", policies: [{ bank: "sha256", pcrs: [11] }] });
    const made = await run("measure", "--key", "db.key", "-o", "pcrsig", ...flags);
    expect(made).toEqual({ exitCode: 0, stdout: "pcrsig: 1 policy, signed\n", stderr: "" });
    const [signature] = parsePcrSignatures(readFileSync(join(folder, "pcrsig")));
    expect(Buffer.from(signature?.policy ?? []).toString("hex")).toBe(document.policies[0].policy);
  });

  test.each([
    ["a key without a file for the result", ["--key", "db.key"]],
    ["a file without key", ["-o", "pcrsig"]],
    ["two keys", ["--key", "db.key", "--keys", ".", "-o", "pcrsig"]],
    ["SHA-1", ["--policy", "--bank", "sha1"]],
    ["a passphrase without key", ["--policy", "--passphrase-file", "os-release"]],
  ])("refuses %s", async (_name, argv) => {
    const { run } = await signed();
    expect((await run("measure", ...argv, "linux.efi")).exitCode).toBe(2);
  });

  test("prints a line per phase and bank", async () => {
    const { run } = await signed();
    const { exitCode, stdout } = await run("measure", "linux.efi", "--bank", "sha256");
    expect(exitCode).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^phases +bank +PCR 11$/);
    expect(lines.slice(1).map((line) => line.replace(/ +sha256 +[0-9a-f]{64}$/, ""))).toEqual([
      "enter-initrd",
      "enter-initrd:leave-initrd",
      "enter-initrd:leave-initrd:sysinit",
      "enter-initrd:leave-initrd:sysinit:ready",
    ]);
  });

  test("prints a document", async () => {
    const { run } = await signed();
    const json = JSON.parse((await run("measure", "linux.efi", "--phases", "enter-initrd", "--json")).stdout);
    expect(json).toMatchObject({
      kind: "uki-measure",
      version: 1,
      pcr: 11,
      sections: [".linux", ".cmdline", ".uname", ".sbat"],
    });
    expect(json.predictions).toHaveLength(4);
    expect(json.predictions[1]).toMatchObject({ bank: "sha256", phasePath: "enter-initrd" });
    expect(json.predictions[1].value).toMatch(/^[0-9a-f]{64}$/);
  });

  test("refuses an unknown bank", async () => {
    const { run } = await signed();
    expect((await run("measure", "linux.efi", "--bank", "md5")).exitCode).toBe(2);
  });
});
