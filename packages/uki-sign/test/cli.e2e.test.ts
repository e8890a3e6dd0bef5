import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { buildUki, parsePcrSignatures } from "../src/index.ts";
import { testKey } from "./support/keys.ts";
import { scratch } from "./support/oracles.ts";
import { testKernel, testStub } from "./support/pe.ts";

const BIN = fileURLToPath(new URL("../bin/uki-sign.js", import.meta.url));

/** Runs the built command, as its users do. */
function ukiSign(...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [BIN, ...argv], { encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } });
}

describe("the built command", () => {
  test.each(["build", "sign", "signatures", "verify", "inspect", "measure", "eventlog", "keys", "vars"])(
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
