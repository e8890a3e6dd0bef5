import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { encodePem, generateKeys } from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { cliWorkspace } from "../support/cli.ts";
import { testPem } from "../support/keys.ts";
import { testKernel, testStub } from "../support/pe.ts";

let certificate: string;
let keys: string;

function workspace(): ReturnType<typeof cliWorkspace> {
  const made = cliWorkspace({
    ...{ stub: testStub(), linux: testKernel("6.12"), "image.efi": testStub() },
    ...{ "db.key": testPem("db"), "db.crt": certificate, clients: `builder ${"b".repeat(32)}\n` },
  });
  cpSync(keys, join(made.folder, "keys"), { recursive: true });
  return made;
}

beforeAll(async () => {
  certificate = encodePem("CERTIFICATE", (await testCertificate("db")).der);
  const folder = mkdtempSync(join(tmpdir(), "uki-sign-files-"));
  keys = join(folder, "keys");
  await generateKeys(keys);
  return () => rmSync(folder, { recursive: true, force: true });
});

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const BUILD = ["build", "--stub", "stub", "--linux", "linux", "-o", "out.efi"];
const KEY = ["--key", "db.key", "--certificate", "db.crt"];
const SIGN = ["sign", "image.efi", "-o", "out.efi"];

describe("what commands read into memory", () => {
  test.each([
    ["vars show", "/dev/zero"],
    ["vars enroll", "/dev/zero", "--keys", "keys", "-o", "out.efi"],
    ["vars sign", "db", "--keys", "keys", "--add", "/dev/zero", "-o", "out.efi"],
    ["eventlog", "/dev/zero"],
    ["verify", "--certificate", "/dev/zero", "image.efi"],
    ["verify", "--db", "/dev/zero", "image.efi"],
    [...SIGN, "--key", "/dev/zero", "--certificate", "db.crt"],
    [...SIGN, "--key", "db.key", "--certificate", "/dev/zero"],
    [...BUILD, "--cmdline", "@/dev/zero"],
    [...BUILD, "--os-release", "@/dev/zero"],
    [...BUILD, "--sbat", "@/dev/zero"],
    [...BUILD, "--pcrsig", "/dev/zero"],
    [...BUILD, "--pcrpkey", "/dev/zero"],
    [...BUILD, "--hwids", "/dev/zero"],
    [...BUILD, "--efifw", "id=/dev/zero"],
    ["signatures", "attach", "--signature", "/dev/zero", "image.efi", "-o", "out.efi"],
    ["signatures", "remove", "--certificate", "/dev/zero", "image.efi", "-o", "out.efi"],
    ["keys", "generate", "new", "--passphrase-file", "/dev/zero"],
    ["signer", "serve", "--key", "db.key", "--clients", "/dev/zero"],
    ["signer", "requests", "http://127.0.0.1:1", "--token-file", "/dev/zero"],
  ])("has an end: %s %s %s %s %s %s %s %s %s %s", async (...argv) => {
    const { folder, run } = workspace();
    const { exitCode, stderr } = await run(...argv.flatMap((word) => (/^(vars) /.test(word) ? word.split(" ") : word)));
    expect([exitCode, stderr]).toEqual([
      1,
      expect.stringMatching(/expected at most \d+ bytes in \/dev\/zero, got more .*UKI_SIGN_TOO_LARGE/),
    ]);
    expect(existsSync(join(folder, "out.efi"))).toBe(false);
  });

  test("of a key hierarchy has one too", async () => {
    const { folder, run } = workspace();
    rmSync(join(folder, "keys", "db.crt"));
    symlinkSync("/dev/zero", join(folder, "keys", "db.crt"));
    expect((await run("keys", "show", "keys")).stderr).toMatch(/db\.crt: expected a file of at most 65536 bytes/);
  });

  test("may come from a FIFO that ends", async () => {
    const { folder, run } = workspace();
    const fifo = join(folder, "fifo");
    execFileSync("mkfifo", [fifo]);
    const writer = spawn("sh", ["-c", 'cat "$0" > "$1"', join(folder, "db.crt"), fifo]);
    onTestFinished(() => void writer.kill());
    await run(...SIGN, ...KEY);
    expect(await run("verify", "--certificate", "fifo", "out.efi")).toMatchObject({ exitCode: 0 });
  });
});

describe("what commands write", () => {
  test.each<[string, string[]]>([
    ["linux", ["build", "--stub", "stub", "--linux", "linux", "-o", "linux"]],
    ["db.key", ["sign", "image.efi", ...KEY, "-o", "./db.key"]],
    ["db.crt", ["sign", "image.efi", ...KEY, "-o", "link.crt"]],
    ["keys/db.key", ["sign", "image.efi", "--keys", "keys", "-o", "keys/db.key"]],
    ["out.efi", ["signatures", "extract", "--index", "0", "out.efi", "-o", "out.efi"]],
    ["db.crt", ["vars", "sign", "db", ...KEY, "--owner", OWNER, "--add", "db.crt", "-o", "db.crt"]],
  ])("is not what they read: %s", async (input, argv) => {
    const { folder, run } = workspace();
    await run(...SIGN, ...KEY);
    symlinkSync("db.crt", join(folder, "link.crt"));
    const before = readFileSync(join(folder, input));
    const { exitCode, stderr } = await run(...argv);
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("expected an output that is no input, got ")]);
    expect(readFileSync(join(folder, input))).toEqual(before);
  });

  test("is an image signed where it is, with the mode it had", async () => {
    const { folder, run } = workspace();
    chmodSync(join(folder, "image.efi"), 0o600);
    symlinkSync("image.efi", join(folder, "link.efi"));
    for (const image of ["image.efi", "link.efi"]) {
      expect((await run("sign", image, ...KEY, "-o", image)).stderr).toBe("");
    }
    expect((await run("signatures", "list", "image.efi", "--json")).stdout).toContain('"index": 1');
    expect(statSync(join(folder, "image.efi")).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(folder, "link.efi"))).toEqual(readFileSync(join(folder, "image.efi")));
  });

  test.each(["/dev/null", "directory"])("does not replace %s", async (output) => {
    const { folder, run } = workspace();
    mkdirSync(join(folder, "directory"));
    const { exitCode, stderr } = await run("sign", "image.efi", ...KEY, "-o", output);
    expect([exitCode, stderr]).toEqual([
      1,
      expect.stringMatching(/expected a regular file or nothing at .*UKI_SIGN_FILE/),
    ]);
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });

  test("says which directory is missing", async () => {
    const { folder, run } = workspace();
    writeFileSync(join(folder, "file"), "");
    expect((await run("sign", "image.efi", ...KEY, "-o", "none/out.efi")).stderr).toContain("UKI_SIGN_FILE");
    expect((await run("sign", "image.efi", ...KEY, "-o", "file/out.efi")).stderr).toContain("UKI_SIGN_FILE");
  });
});
