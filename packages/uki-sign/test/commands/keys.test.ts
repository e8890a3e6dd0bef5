import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  certificateLists,
  decodeCertificate,
  decodeSignatureLists,
  decodeVariableStore,
  encodeSignatureLists,
  generateKeys,
  verifyVariable,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { type CliWorkspace, cliWorkspace } from "../support/cli.ts";
import { emptyStore } from "../support/variable-store.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const other = await testCertificate("other");
const FILES = {
  "empty.fd": emptyStore({ sizeBytes: 0x20000, storeBytes: 0xdfb8 }),
  "other.der": other.der,
  "other.esl": encodeSignatureLists(certificateLists([other], OWNER)),
};

const base = mkdtempSync(join(tmpdir(), "uki-sign-keys-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));
await generateKeys(join(base, "keys"), { owner: OWNER, notBefore: new Date("2026-01-01T00:00:00Z") });

/** A workspace with a key hierarchy in `keys`. */
function withKeys(): CliWorkspace {
  const workspace = cliWorkspace(FILES);
  cpSync(join(base, "keys"), join(workspace.folder, "keys"), { recursive: true });
  return workspace;
}

const read = (folder: string, name: string): Uint8Array => new Uint8Array(readFileSync(join(folder, name)));

describe("uki-sign keys", () => {
  test("generates a hierarchy, then shows it", async () => {
    const { folder, run } = cliWorkspace({});
    const generated = await run(
      "keys",
      "generate",
      "keys",
      "--name",
      "hare",
      "--owner",
      OWNER,
      "--not-before",
      "2026-01-01",
    );
    expect(generated.exitCode).toBe(0);
    const lines = generated.stdout.split("\n");
    expect(lines[0]).toBe(`${join(folder, "keys")}, owner ${OWNER}`);
    expect(lines[3]).toMatch(
      /^db {6}signs what firmware boots {2}RSA 2048 {2}CN=hare db {6}until 2046-01-01 {2}[0-9a-f]{16}$/,
    );
    expect(await run("keys", "show", "keys")).toEqual(generated);
    const again = await run("keys", "generate", "keys");
    expect(again.exitCode).toBe(1);
    expect(again.stderr).toContain("[UKI_SIGN_KEYS_EXIST]");
  });

  test("shows a hierarchy whose private keys are elsewhere", async () => {
    const { folder, run } = withKeys();
    rmSync(join(folder, "keys", "PK.key"));
    expect((await run("keys", "show", "keys")).stderr).toContain("PK.key: expected a readable file, got no such file");
    const { stdout } = await run("keys", "show", "keys", "--certificates", "--json");
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ kind: "uki-keys", version: 1, owner: OWNER, exposedPaths: [] });
    expect(document.keys[2]).toMatchObject({
      role: "db",
      subject: "CN=leveret db",
      keyBits: 2048,
      hasPrivateKey: false,
    });
  });

  test("asks the terminal for a new passphrase twice, and for a known one once", async () => {
    const { answers, questions, run } = cliWorkspace({});
    answers.push("hop", "hopp");
    const differs = await run("keys", "generate", "keys", "--ask-passphrase");
    expect([differs.exitCode, differs.stderr]).toEqual([1, expect.stringContaining("[UKI_SIGN_PASSPHRASE]")]);
    answers.push("hop", "hop");
    expect((await run("keys", "generate", "keys", "--ask-passphrase")).exitCode).toBe(0);
    expect(questions.splice(0)).toEqual(["New passphrase: ", "Once more: ", "New passphrase: ", "Once more: "]);
    answers.push("hop");
    expect((await run("keys", "show", "keys")).exitCode).toBe(0);
    expect(questions.splice(0)).toEqual([expect.stringMatching(/^Passphrase of .*\/keys\/PK\.key: $/)]);
    answers.push("hopp");
    const wrong = await run("keys", "show", "keys");
    expect([wrong.exitCode, wrong.stdout, wrong.stderr]).toEqual([
      1,
      "",
      expect.stringContaining("[UKI_SIGN_PASSPHRASE]"),
    ]);
    expect(wrong.stderr).not.toContain("hop");
  });

  test("takes a new passphrase from the terminal or a file, and needs one of them", async () => {
    const { run } = cliWorkspace({ pass: "hop\n" });
    expect((await run("keys", "generate", "keys", "--ask-passphrase")).stderr).toContain("[UKI_SIGN_PASSPHRASE]");
    expect((await run("keys", "generate", "keys", "--ask-passphrase", "--passphrase-file", "pass")).exitCode).toBe(2);
  });

  test("takes a passphrase from no argument", async () => {
    const { folder, run } = cliWorkspace({ pass: "hop\n" });
    expect((await run("keys", "generate", "keys", "--passphrase-file", "pass")).exitCode).toBe(0);
    expect(readFileSync(join(folder, "keys", "db.key"), "latin1")).toContain("ENCRYPTED");
    expect((await run("keys", "show", "keys")).stderr).toContain("[UKI_SIGN_PASSPHRASE]");
    expect((await run("keys", "show", "keys", "--passphrase-file", "pass")).exitCode).toBe(0);
    expect((await run("keys", "generate", "more", "--passphrase", "hop")).stderr).toContain("unknown option");
  });

  test.each([[["--bits", "many"]], [["--not-before", "soon"]]])("refuses the usage %j", async (flags) => {
    const { run } = cliWorkspace({});
    expect((await run("keys", "generate", "keys", ...flags)).exitCode).toBe(2);
  });
});

describe("uki-sign vars enroll", () => {
  test("enrols a hierarchy without its private keys", async () => {
    const { folder, run } = withKeys();
    for (const role of ["PK", "KEK", "db"]) rmSync(join(folder, "keys", `${role}.key`));
    const { exitCode, stdout } = await run(
      "vars",
      "enroll",
      "empty.fd",
      "--keys",
      "keys",
      "--db",
      "other.der",
      "-o",
      "vars.fd",
    );
    expect(exitCode).toBe(0);
    expect(stdout.split("\n").map((line) => line.replaceAll(/ +/g, " "))).toEqual([
      expect.stringMatching(/^PK \d+ B 2026-01-01T00:00:00.000Z$/),
      " x509 CN=leveret PK",
      expect.stringMatching(/^KEK/),
      " x509 CN=leveret KEK",
      expect.stringMatching(/^db/),
      " x509 CN=leveret db",
      " x509 CN=leveret other",
      expect.stringMatching(/^vars\.fd: 128 KiB, Secure Boot on, \d+ KiB free$/),
      "",
    ]);
    expect(decodeVariableStore(read(folder, "vars.fd")).variables).toHaveLength(6);
  });

  test("enrols files, and shows all of the store", async () => {
    const { run } = cliWorkspace(FILES);
    const files = [
      "--pk",
      "other.der",
      "--kek",
      "other.esl",
      "--db",
      "other.esl",
      "--dbx",
      "other.esl",
      "--owner",
      OWNER,
    ];
    const time = ["--timestamp", "2026-06-01T00:00:00Z"];
    const enrolled = await run("vars", "enroll", "empty.fd", ...files, ...time, "-o", "vars.fd", "--json");
    const document = JSON.parse(enrolled.stdout);
    expect(document).toMatchObject({ kind: "uki-vars-enroll", version: 1, path: "vars.fd", sizeBytes: 0x20000 });
    const shown = JSON.parse((await run("vars", "show", "vars.fd", "--json")).stdout);
    expect(shown).toMatchObject({ kind: "uki-variable-store", version: 1 });
    expect(shown.variables).toContainEqual({
      name: "dbx",
      guid: "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
      attributes: 0x27,
      sizeBytes: read(cliWorkspace(FILES).folder, "other.esl").length,
      timestamp: "2026-06-01T00:00:00.000Z",
      entries: [{ type: "x509", owner: OWNER, name: "CN=leveret other" }],
    });
    expect((await run("vars", "show", "vars.fd")).stdout).toMatch(/^SecureBootEnable {2}1 B\n/);
  });

  test.each([
    [[], 2],
    [["--keys", "keys", "--pk", "other.der"], 2],
    [["--pk", "other.der"], 2],
    [["--keys", "none"], 1],
  ])("refuses %j with exit code %i", async (flags, exitCode) => {
    const { run } = cliWorkspace(FILES);
    expect((await run("vars", "enroll", "empty.fd", ...flags, "-o", "vars.fd")).exitCode).toBe(exitCode);
  });
});

describe("uki-sign vars sign", () => {
  test("signs the hierarchy's own values with the right key", async () => {
    const { folder, run } = withKeys();
    for (const [name, by] of [
      ["PK", "PK"],
      ["KEK", "PK"],
      ["db", "KEK"],
    ] as const) {
      const output = `${name}.auth`;
      const { stdout } = await run("vars", "sign", name, "--keys", "keys", "--timestamp", "2026-06-01", "-o", output);
      expect(stdout).toBe(`${output}: ${name}, 1 entry, 2026-06-01T00:00:00.000Z, signed by CN=leveret ${by}\n`);
      const trusted = [decodeCertificate(read(folder, `keys/${by}.crt`))];
      const { data } = verifyVariable(read(folder, output), { name, trusted });
      expect(decodeSignatureLists(data)[0]?.signatures[0]?.data).toEqual(
        decodeCertificate(read(folder, `keys/${name}.crt`)).der,
      );
    }
    expect((await run("vars", "show", "db.auth")).stdout).toBe(
      `signed at 2026-06-01T00:00:00.000Z, by a certificate of CN=leveret KEK\nx509  CN=leveret db  ${OWNER}\n`,
    );
  });

  test("signs additions and deletions with any key", async () => {
    const { folder, run } = withKeys();
    const key = ["--key", "keys/KEK.key", "--certificate", "keys/KEK.crt"];
    const added = await run(
      "vars",
      "sign",
      "dbx",
      ...key,
      "--owner",
      OWNER,
      "--append",
      "--add",
      "other.der",
      "-o",
      "a",
      "--json",
    );
    expect(JSON.parse(added.stdout)).toMatchObject({ kind: "uki-vars-sign", name: "dbx", append: true });
    const trusted = [decodeCertificate(read(folder, "keys/KEK.crt"))];
    expect(verifyVariable(read(folder, "a"), { name: "dbx", append: true, trusted }).data).toHaveLength(
      other.der.length + 44,
    );
    const deleted = await run("vars", "sign", "db", ...key, "--delete", "-o", "d");
    expect(deleted.stdout).toMatch(/^d: db, 0 entries, /);
    expect(verifyVariable(read(folder, "d"), { name: "db", trusted }).data).toHaveLength(0);
    expect((await run("vars", "show", "other.esl")).stdout).toBe(`x509  CN=leveret other  ${OWNER}\n`);
  });

  test.each([
    [["db"]],
    [["db", "--keys", "keys", "--key", "keys/KEK.key"]],
    [["dbx", "--keys", "keys"]],
    [["MyVariable", "--keys", "keys"]],
    [["db", "--keys", "keys", "--delete", "--add", "other.der"]],
    [["db", "--key", "keys/KEK.key", "--certificate", "keys/KEK.crt", "--add", "other.der"]],
  ])("refuses the usage %j", async (argv) => {
    const { run } = withKeys();
    expect((await run("vars", "sign", ...argv, "-o", "out")).exitCode).toBe(2);
  });
});

test("uki-sign vars show refuses what is none of its kinds", async () => {
  const { folder, run } = cliWorkspace({});
  writeFileSync(join(folder, "text"), "hare");
  const { exitCode, stderr } = await run("vars", "show", "text");
  expect(exitCode).toBe(1);
  expect(stderr).toContain(
    "expected a signature list header of 28 bytes, got 4 (at byte 0) [UKI_SIGN_SIGNATURE_LIST_INVALID]",
  );
});
