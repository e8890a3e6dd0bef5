import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { buildUki, parsePcrSignatures } from "../src/index.ts";
import { testCertificate } from "./support/certificates.ts";
import { testKey } from "./support/keys.ts";
import { scratch } from "./support/oracles.ts";
import { testKernel, testStub } from "./support/pe.ts";

const BIN = fileURLToPath(new URL("../bin/uki-sign.js", import.meta.url));

/** Runs the built command, as its users do. */
function ukiSign(...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [BIN, ...argv], { encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } });
}

/** Runs the built command on a terminal, and types `keys` when it asks for something. */
async function onTerminal(
  cwd: string,
  argv: readonly string[],
  keys: string,
): Promise<{ exitCode: number | null; shown: string }> {
  const command = [process.execPath, ...argv].map((word) => `'${word}'`).join(" ");
  const terminal = ["--quiet", "--return", "--command", command, "/dev/null"];
  const child = spawn("script", terminal, {
    cwd,
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  let shown = "";
  for await (const chunk of child.stdout) {
    const asked = shown.includes(": ");
    shown += chunk;
    if (!asked && shown.includes(": ")) child.stdin.write(keys);
  }
  const [exitCode] = (await closed) as [number | null];
  return { exitCode, shown };
}

describe("the built command", () => {
  test.each(["build", "sign", "signatures", "verify", "inspect", "measure", "eventlog", "keys", "signer", "vars"])(
    "%s explains itself",
    (command) => {
      const { status, stdout } = ukiSign(command, "--help");
      expect(status).toBe(0);
      expect(stdout).toMatchSnapshot();
    },
  );

  test("lists its subcommands", () => {
    expect(ukiSign("--help").stdout).toMatchSnapshot();
  });

  test.each([
    ["no subcommand", []],
    ["an unknown subcommand", ["biuld"]],
    ["an unknown flag", ["inspect", "--yaml", "linux.efi"]],
    ["a missing argument", ["inspect"]],
  ])("ends with 2 for %s", (_name, argv) => {
    const { status, stdout, stderr } = ukiSign(...argv);
    expect([status, stdout, stderr === ""]).toEqual([2, "", false]);
  });

  test("ends with 1 and a hint for a file that is not there", () => {
    const { status, stderr } = ukiSign("inspect", "/nowhere/linux.efi");
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: expected a file at .*, got none.*\[UKI_SIGN_FILE\]\n$/);
  });

  test.each([
    ["the passphrase", "hare\r", 0, /^Passphrase of db\.key: \r\nsigned\.efi: signed by /],
    ["a wrong one", "rabbit\r", 1, /^Passphrase of db\.key: \r\nerror: .*\[UKI_SIGN_PASSPHRASE\]/],
    ["Ctrl-C", "ha\u0003", 130, /^Passphrase of db\.key: \r\ninterrupted/],
  ])("asks the terminal for a passphrase, shows nothing of it, and takes %s", async (_what, keys, status, shown) => {
    const folder = scratch();
    const cipher = { cipher: "aes-256-cbc", passphrase: "hare" } as const;
    writeFileSync(join(folder, "db.key"), testKey().privateKey.export({ type: "pkcs8", format: "pem", ...cipher }));
    writeFileSync(join(folder, "db.crt"), (await testCertificate()).der);
    writeFileSync(join(folder, "linux.efi"), buildUki({ stub: testStub(), linux: testKernel() }));
    const sign = "sign --key db.key --certificate db.crt linux.efi -o signed.efi".split(" ");
    const terminal = await onTerminal(folder, [BIN, ...sign], keys);
    expect(terminal.shown).toMatch(shown);
    expect(terminal.exitCode).toBe(status);
    expect(terminal.shown).not.toMatch(/hare|rabbit/);
    expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
    expect(readdirSync(folder).includes("signed.efi")).toBe(status === 0);
  });

  test.each(["pipe of a parent process", "file"])("takes a passphrase from a descriptor that is a %s", (kind) => {
    const folder = scratch();
    const [key, stub, output] = ["db.key", "stub", "pcrsig"].map((name) => join(folder, name));
    const { privateKey } = testKey("owner");
    const cipher = { cipher: "aes-256-cbc", passphrase: "hare" } as const;
    writeFileSync(key ?? "", privateKey.export({ type: "pkcs8", format: "pem", ...cipher }));
    writeFileSync(stub ?? "", buildUki({ stub: testStub(), linux: testKernel() }));
    writeFileSync(join(folder, "passphrase"), "hare\n");
    const argv = ["measure", stub, "--key", key, "--passphrase-file", "/dev/fd/0", "-o", output].map(String);
    const stdin = kind === "file" ? openSync(join(folder, "passphrase"), "r") : "pipe";
    const { status, stderr } = spawnSync(process.execPath, [BIN, ...argv], {
      encoding: "utf8",
      stdio: [stdin, "pipe", "pipe"],
      ...(stdin === "pipe" ? { input: "hare\n" } : {}),
    });
    if (stdin !== "pipe") closeSync(stdin);
    expect([status, stderr]).toEqual([0, ""]);
    expect(parsePcrSignatures(readFileSync(output ?? ""))).toHaveLength(12);
  });
});
