import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Certificate,
  decodeAuthenticatedVariable,
  decodeCertificate,
  encodePem,
  signPe,
} from "../../src/index.ts";
import { cliWorkspace } from "../support/cli.ts";
import { testKeySet } from "../support/key-set.ts";
import { testPem } from "../support/keys.ts";
import { testPe } from "../support/pe.ts";

/** The files of a hierarchy of test keys. */
async function hierarchy(name: string): Promise<Record<string, string>> {
  const keys = await testKeySet(name);
  const files = Object.entries(keys.certificates).flatMap(([role, certificate]): [string, string][] => [
    [`${role}.key`, testPem(`${name} ${role}`)],
    [`${role}.crt`, encodePem("CERTIFICATE", certificate.der)],
  ]);
  return Object.fromEntries(
    [...files, ["owner.guid", keys.owner] as const].map(([file, text]) => [`${name}/${file}`, text]),
  );
}

const previous = await testKeySet("previous");
const { signers, certificates } = previous;
const FILES = {
  ...(await hierarchy("previous")),
  ...(await hierarchy("next")),
  "linux.efi": await signPe(testPe(), { signer: signers.db, certificate: certificates.db }),
};

describe("uki-sign keys export", () => {
  test("writes what systemd-boot and firmware set-up take", async () => {
    const { folder, run } = cliWorkspace(FILES);
    const result = await run("keys", "export", "previous", "-o", "out");
    expect(result.stderr).toBe("");
    const by = ({ subject, fingerprint }: Certificate) => `signed by ${subject} (${fingerprint.slice(0, 16)}…)`;
    expect(result.stdout.split("\n")).toEqual([
      "out",
      `  PK.auth   sets PK   ${by(certificates.PK)}`,
      `  KEK.auth  sets KEK  ${by(certificates.PK)}`,
      `  db.auth   sets db   ${by(certificates.KEK)}`,
      "",
    ]);
    expect(readdirSync(join(folder, "out"))).toEqual(
      ["KEK.auth", "KEK.cer", "KEK.esl", "PK.auth", "PK.cer", "PK.esl", "db.auth", "db.cer", "db.esl"].sort(),
    );
    const value = readFileSync(join(folder, "out/db.esl"));
    expect(decodeAuthenticatedVariable(readFileSync(join(folder, "out/db.auth"))).data).toEqual(new Uint8Array(value));
    expect(decodeCertificate(readFileSync(join(folder, "out/db.cer"))).subject).toBe("CN=leveret previous db");
    expect((await run("keys", "export", "previous", "-o", "out")).stderr).toContain("UKI_SIGN_KEYS_EXIST");
    expect((await run("keys", "export", "previous", "-o", "missing/out")).stderr).toMatch(
      /expected a directory for \S+\/missing\/out, got none/,
    );
  });

  test("adds what else is trusted and forbidden, and prints a document", async () => {
    const { run } = cliWorkspace(FILES);
    const more = ["--db", "next/db.crt", "--kek", "next/KEK.crt", "--dbx", "next/pcr.crt"];
    const { stdout } = await run("keys", "export", "previous", ...more, "-o", "out", "--json");
    expect(JSON.parse(stdout).updates.map(({ name }: { name: string }) => name)).toEqual(["PK", "KEK", "db", "dbx"]);
  });
});

describe("uki-sign keys rotate", () => {
  test("writes the updates in the order in which they have to be made", async () => {
    const { folder, run } = cliWorkspace(FILES);
    const { stdout, stderr } = await run("keys", "rotate", "previous", "next", "-o", "out", "--revoke");
    expect(stderr).toBe("");
    expect(readdirSync(join(folder, "out")).sort()).toEqual([
      "introduce-1-KEK.append.auth",
      "introduce-2-db.append.auth",
      "retire-1-db.auth",
      "retire-2-dbx.append.auth",
      "retire-3-KEK.auth",
      "retire-4-PK.auth",
    ]);
    expect(stdout).toContain("  retire-2-dbx.append.auth     adds to dbx  signed by CN=leveret next KEK (");
  });

  test("does not forbid what is in use", async () => {
    const { folder, run } = cliWorkspace(FILES);
    const rotate = (...flags: string[]) => run("keys", "rotate", "previous", "next", "-o", "out", ...flags);
    expect((await rotate("--revoke", "--in-use", "linux.efi")).stderr).toContain("UKI_SIGN_DBX_IN_USE");
    expect((await rotate("--in-use", "linux.efi")).exitCode).toBe(2);
    expect(readdirSync(folder)).not.toContain("out");
    const sign = ["vars", "sign", "dbx", "--keys", "previous", "--add", "previous/db.crt", "-o", "dbx.auth"];
    expect((await run(...sign, "--in-use", "linux.efi")).stderr).toContain("UKI_SIGN_DBX_IN_USE");
    expect((await run(...sign)).exitCode).toBe(0);
    const other = ["vars", "sign", "db", "--keys", "previous", "-o", "db.auth", "--in-use", "linux.efi"];
    expect((await run(...other)).exitCode).toBe(2);
  });
});
