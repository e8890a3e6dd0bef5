import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeAuthenticatedVariable, encodePem, listSignatures, signPe } from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { cliWorkspace } from "../support/cli.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { testPe } from "../support/pe.ts";
import { emptyStore } from "../support/variable-store.ts";

const owner = await testCertificate("owner");
const stranger = await testCertificate("stranger");
const OWNER = "0f9c8d7e-1111-4222-8333-444455556666";
const STORE = { sizeBytes: 0x84000, storeBytes: 0x40000 };
const image = testPe();
const both = await signPe(
  await signPe(image, {
    signer: testSigner("owner"),
    certificate: owner,
    signingTime: new Date("2026-06-01T00:00:00Z"),
  }),
  { signer: testSigner("stranger"), certificate: stranger, hash: "sha512" },
);
const FILES = {
  "both.efi": both,
  "image.efi": image,
  "other.efi": testPe({ headerSize: 2048 }),
  "owner.key": testPem("owner"),
  "owner.pem": encodePem("CERTIFICATE", owner.der),
};

describe("uki-sign signatures", () => {
  test("lists who signed, and that nobody did", async () => {
    const { run } = cliWorkspace(FILES);
    const { stdout } = await run("signatures", "list", "both.efi");
    expect(stdout.split("\n")).toEqual([
      expect.stringMatching(/^0 {2}\S+ KiB {2}sha256 {2}CN=leveret owner \([0-9a-f]{16}…\), 2026-06-01T00:00:00.000Z$/),
      expect.stringMatching(/^1 {2}\S+ KiB {2}sha512 {2}CN=leveret stranger \([0-9a-f]{16}…\)$/),
      "",
    ]);
    expect((await run("signatures", "list", "image.efi")).stdout).toBe("unsigned\n");
  });

  test("removes by index, by certificate and all", async () => {
    const { folder, run } = cliWorkspace(FILES);
    const left = async (...flags: string[]) => {
      const { stdout, stderr } = await run("signatures", "remove", ...flags, "both.efi", "-o", "out.efi", "--json");
      expect(stderr).toBe("");
      return JSON.parse(stdout).signatures.map(({ signer }: { signer: string }) => signer);
    };
    expect(await left("--index", "0")).toEqual(["CN=leveret stranger"]);
    expect(await left("--certificate", "owner.pem")).toEqual(["CN=leveret stranger"]);
    expect(await left("--all")).toEqual([]);
    expect(readFileSync(join(folder, "out.efi"))).toEqual(Buffer.from(image));
    expect((await run("signatures", "remove", "both.efi", "-o", "out.efi")).exitCode).toBe(2);
    expect((await run("signatures", "remove", "--index", "2", "both.efi", "-o", "out.efi")).exitCode).toBe(1);
  });

  test("takes a signature out and attaches it again, only to the image it is about", async () => {
    const { folder, run } = cliWorkspace(FILES);
    expect((await run("signatures", "extract", "--index", "1", "both.efi", "-o", "one.p7s")).exitCode).toBe(0);
    expect(readFileSync(join(folder, "one.p7s"))).toEqual(Buffer.from(listSignatures(both)[1]?.data ?? []));
    const attached = await run("signatures", "attach", "--signature", "one.p7s", "image.efi", "-o", "out.efi");
    expect(attached).toEqual({ exitCode: 0, stdout: "out.efi: 1 signature\n", stderr: "" });
    const wrong = await run("signatures", "attach", "--signature", "one.p7s", "other.efi", "-o", "bad.efi");
    expect([wrong.exitCode, wrong.stderr]).toEqual([1, expect.stringContaining("UKI_SIGN_DIGEST_MISMATCH")]);
    expect((await run("signatures", "extract", "--index", "2", "both.efi", "-o", "x")).stderr).toContain(
      "UKI_SIGN_UNSIGNED",
    );
  });
});

describe("uki-sign sign and verify", () => {
  test("sign with the hash they are told, and ask for purposes and times when told to", async () => {
    const { run } = cliWorkspace(FILES);
    const keys = ["--key", "owner.key", "--certificate", "owner.pem"];
    expect((await run("sign", "image.efi", ...keys, "--hash", "sha384", "-o", "out.efi")).exitCode).toBe(0);
    const verify = (...flags: string[]) => run("verify", "--certificate", "owner.pem", ...flags, "out.efi");
    expect(JSON.parse((await verify("--json")).stdout)).toMatchObject({ accepted: true, hash: "sha384" });
    expect((await verify("--purpose", "codeSigning", "--at", "2027-01-01")).exitCode).toBe(0);
    expect((await verify("--at", "2040-01-01")).stderr).toContain("UKI_SIGN_UNTRUSTED");
    expect((await verify("--purpose", "anything")).exitCode).toBe(2);
    expect((await run("sign", "image.efi", ...keys, "--hash", "sha1", "-o", "x")).exitCode).toBe(2);
  });

  test("carry the certificates between the signer's and one that is trusted", async () => {
    const ca = { isCa: true } as const;
    const root = await testCertificate("root", ca);
    const middle = await testCertificate("middle", {
      ...ca,
      issuer: root,
      signer: testSigner("root"),
      serialNumber: 2n,
    });
    const leaf = await testCertificate("owner", { issuer: middle, signer: testSigner("middle"), serialNumber: 3n });
    const pem = ({ der }: { der: Uint8Array }): string => encodePem("CERTIFICATE", der);
    const { run } = cliWorkspace({ ...FILES, "leaf.pem": pem(leaf), "middle.pem": pem(middle), "root.pem": pem(root) });
    const signer = ["--key", "owner.key", "--certificate", "leaf.pem"];
    for (const [more, exitCode] of [
      [[], 1],
      [["--add-certificate", "middle.pem"], 0],
    ] as const) {
      expect(await run("sign", "image.efi", ...signer, ...more, "-o", "out.efi")).toMatchObject({ exitCode: 0 });
      expect(await run("verify", "--certificate", "root.pem", "out.efi")).toMatchObject({ exitCode });
    }
    const revoked = await run("verify", "--certificate", "root.pem", "--forbid-certificate", "middle.pem", "out.efi");
    expect(revoked.stderr).toContain("UKI_SIGN_REVOKED");
    expect(await run("sign", "image.efi", "--add-certificate", "middle.pem", "-o", "out.efi")).toMatchObject({
      exitCode: 2,
    });
  });

  test("find what is trusted and what is not in any file that has it", async () => {
    const { folder, run } = cliWorkspace({ ...FILES, "empty.fd": emptyStore(STORE) });
    const at = (name: string): string => join(folder, name);
    const set = ["--key", "owner.key", "--certificate", "owner.pem", "--owner", OWNER];
    for (const name of ["db", "dbx"]) {
      const made = await run("vars", "sign", name, ...set, "--add", "owner.pem", "-o", `${name}.auth`);
      expect(made).toMatchObject({ exitCode: 0, stderr: "" });
      const { data } = decodeAuthenticatedVariable(readFileSync(at(`${name}.auth`)));
      writeFileSync(at(`${name}.esl`), data);
      writeFileSync(at(`${name}-d719b2cb`), Buffer.concat([Buffer.from([0x27, 0, 0, 0]), data]));
    }
    const enrol = ["--pk", "owner.pem", "--kek", "owner.pem", "--db", "db.auth", "--dbx", "dbx.esl", "--owner", OWNER];
    expect(await run("vars", "enroll", ...enrol, "empty.fd", "-o", "vars.fd")).toMatchObject({ exitCode: 0 });
    expect((await run("sign", "image.efi", ...set.slice(0, 4), "-o", "out.efi")).exitCode).toBe(0);
    for (const kind of ["%.esl", "%.auth", "%-d719b2cb", "vars.fd"]) {
      const [db, dbx] = ["db", "dbx"].map((name) => kind.replace("%", name));
      expect(await run("verify", "--db", `${db}`, "out.efi"), kind).toMatchObject({ exitCode: 0 });
      const refused = await run("verify", "--db", `${db}`, "--dbx", `${dbx}`, "out.efi");
      expect(refused, kind).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("UKI_SIGN_REVOKED") });
      expect((await run("vars", "show", `${db}`)).stdout, kind).toContain("CN=leveret owner");
    }
    expect((await run("verify", "--db", "empty.fd", "out.efi")).stderr).toContain("expected a variable store with db");
    const added = await run("vars", "sign", "db", ...set, "--add", "vars.fd", "-o", "x.auth");
    expect(added).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("got a variable store") });
  });
});
