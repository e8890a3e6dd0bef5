import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const BIN = fileURLToPath(new URL("../bin/uki-sign.js", import.meta.url));

/** Runs the built command, as its users do. */
function ukiSign(...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [BIN, ...argv], { encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } });
}

describe("the built command", () => {
  test.each(["build", "sign", "verify", "inspect", "measure", "eventlog", "keys", "vars"])(
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
    expect(stderr).toMatch(/^error: expected a readable file, got ENOENT.*\[UKI_SIGN_FILE\]\n$/);
  });
});
