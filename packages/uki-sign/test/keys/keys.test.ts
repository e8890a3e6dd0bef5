import { createPrivateKey } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { generateKeys, KEY_ROLES, loadKeys } from "../../src/index.ts";
import { rejectionOf } from "../support/errors.ts";

const base = mkdtempSync(join(tmpdir(), "uki-sign-keys-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const notBefore = new Date("2026-11-21T10:20:30.456Z");
const made = await generateKeys(join(base, "made"), { name: "hare", organization: "Example", owner: OWNER, notBefore });
const FILES = [
  "KEK.crt",
  "KEK.key",
  "PK.crt",
  "PK.key",
  "db.crt",
  "db.key",
  "owner.guid",
  "pcr.crt",
  "pcr.key",
  "pcr.pub",
];

/** A copy of the generated hierarchy, to be damaged. */
function copyOfMade(name: string): string {
  const folder = join(base, name);
  mkdirSync(folder, { mode: 0o700 });
  for (const file of readdirSync(made.directory)) {
    writeFileSync(join(folder, file), readFileSync(join(made.directory, file)), { mode: 0o600 });
  }
  return folder;
}

describe("generateKeys", () => {
  test("writes private keys that only their owner may read, and nothing else beside", () => {
    expect(readdirSync(made.directory).sort()).toEqual([...FILES, "verity.crt", "verity.key"]);
    expect(statSync(made.directory).mode & 0o777).toBe(0o700);
    for (const role of KEY_ROLES) expect(statSync(join(made.directory, `${role}.key`)).mode & 0o777).toBe(0o600);
    expect(readdirSync(base).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("gives back what it wrote", async () => {
    const loaded = await loadKeys(made.directory);
    expect(loaded.owner).toBe(OWNER);
    expect(loaded.certificates).toEqual(made.certificates);
    expect(loaded.exposedPaths).toEqual([]);
    for (const role of KEY_ROLES) expect(loaded.signers[role].publicKey).toEqual(made.signers[role].publicKey);
    expect(readFileSync(join(made.directory, "pcr.pub"), "latin1")).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
  });

  test("makes certificates of whole seconds, for twenty years, with serial numbers of their own", () => {
    const { db, PK } = made.certificates;
    expect(db).toMatchObject({ subject: "CN=hare db,O=Example", issuer: "CN=hare db,O=Example", keyBits: 2048 });
    expect(db.notBefore).toEqual(new Date("2026-11-21T10:20:30Z"));
    expect(db.notAfter).toEqual(new Date("2046-11-21T10:20:30Z"));
    expect(db.extendedKeyUsage).toEqual(["1.3.6.1.5.5.7.3.3"]);
    expect(PK.extendedKeyUsage).toBeUndefined();
    expect(new Set(KEY_ROLES.map((role) => made.certificates[role].serialNumber)).size).toBe(5);
  });

  test("encrypts with a passphrase, and sizes keys by role", { timeout: 60_000 }, async () => {
    const folder = join(base, "encrypted");
    await generateKeys(folder, { passphrase: "hop", keyBits: { db: 3072 } });
    const pem = readFileSync(join(folder, "db.key"), "latin1");
    expect(pem).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----\n/);
    expect(createPrivateKey({ key: pem, passphrase: "hop" }).asymmetricKeyDetails?.modulusLength).toBe(3072);
    const keys = await loadKeys(folder, { passphrase: "hop" });
    expect([keys.certificates.db.keyBits, keys.certificates.PK.keyBits]).toEqual([3072, 2048]);
    const error = await rejectionOf(loadKeys(folder, { roles: ["db"] }));
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_PASSPHRASE",
      `expected a passphrase for the encrypted private key, got none (db.key in ${folder})`,
    ]);
    const wrong = await rejectionOf(loadKeys(folder, { passphrase: "hopp" }));
    expect([wrong.code, wrong.message]).toEqual([
      "UKI_SIGN_PASSPHRASE",
      "expected the passphrase of the encrypted private key, got one that does not fit " +
        `(PK.key, KEK.key, db.key, verity.key, pcr.key in ${folder})`,
    ]);
  });

  test("never overwrites", async () => {
    const before = readFileSync(join(made.directory, "PK.key"));
    const file = join(base, "file");
    writeFileSync(file, "");
    for (const path of [made.directory, file]) {
      expect((await rejectionOf(generateKeys(path))).code).toBe("UKI_SIGN_KEYS_EXIST");
    }
    expect(readFileSync(join(made.directory, "PK.key"))).toEqual(before);
    expect(readdirSync(base).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("says which directory is missing", async () => {
    const error = await rejectionOf(generateKeys(join(base, "no", "keys")));
    expect([error.code, error.path]).toEqual(["UKI_SIGN_FILE", join(base, "no", "keys")]);
  });

  test("leaves nothing when it is interrupted", async () => {
    const folder = join(base, "interrupted");
    const reason = new Error("interrupted");
    await expect(generateKeys(folder, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(readdirSync(base).filter((name) => name.includes("interrupted"))).toEqual([]);
  });

  test.each([
    [{ keyBits: 1024 }],
    [{ keyBits: { dbx: 2048 } }],
    [{ owner: "me" }],
    [{ passphrase: "" }],
    [{ notAfter: new Date(0) }],
    [{ names: "x" }],
  ])("refuses the options %j", async (options) => {
    const error = await rejectionOf(generateKeys(join(base, "refused"), options as object));
    expect(error.code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("loadKeys", () => {
  test("names every file that is missing or wrong", async () => {
    const folder = copyOfMade("damaged");
    rmSync(join(folder, "db.key"));
    writeFileSync(join(folder, "KEK.crt"), "hare");
    writeFileSync(join(folder, "owner.guid"), "");
    renameSync(join(folder, "pcr.key"), join(folder, "verity.key"));
    const error = await rejectionOf(loadKeys(folder));
    expect(error.code).toBe("UKI_SIGN_KEYS_INVALID");
    expect(error.path).toBe(join(folder, "owner.guid"));
    expect(error.message.split("\n  ").slice(1)).toEqual([
      `${join(folder, "owner.guid")}: expected a GUID in text form, got something else [UKI_SIGN_BAD_OPTIONS]`,
      `${join(folder, "KEK.crt")}: expected one certificate in DER or PEM, got none [UKI_SIGN_CERTIFICATE_INVALID]`,
      `${join(folder, "db.key")}: expected a readable file, got no such file [UKI_SIGN_FILE]`,
      `${join(folder, "verity.key")}: expected the private key of CN=hare verity,O=Example, got another one [UKI_SIGN_KEY_MISMATCH]`,
      `${join(folder, "pcr.key")}: expected a readable file, got no such file [UKI_SIGN_FILE]`,
    ]);
  });

  test("does without private keys that are not asked for", async () => {
    const folder = copyOfMade("public");
    for (const role of ["PK", "KEK"]) rmSync(join(folder, `${role}.key`));
    const { signers, certificates } = await loadKeys(folder, { roles: ["db", "verity"] });
    expect(Object.keys(signers)).toEqual(["db", "verity"]);
    expect(certificates.PK).toEqual(made.certificates.PK);
  });

  test("tells of private keys that others may read", async () => {
    const folder = copyOfMade("exposed");
    chmodSync(join(folder, "db.key"), 0o640);
    expect((await loadKeys(folder)).exposedPaths).toEqual([join(folder, "db.key")]);
  });

  test("refuses a directory that is none, and a file that is far too long", async () => {
    expect((await rejectionOf(loadKeys(join(base, "none")))).message.split("\n")).toHaveLength(12);
    const folder = copyOfMade("long");
    writeFileSync(join(folder, "db.crt"), Buffer.alloc(70_000));
    expect((await rejectionOf(loadKeys(folder))).message).toContain(
      "at most 65536 bytes, got a longer one [UKI_SIGN_TOO_LARGE]",
    );
  });
});
