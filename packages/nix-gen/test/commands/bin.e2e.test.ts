import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const BIN = fileURLToPath(new URL("../../bin/nix-gen.js", import.meta.url));

function run(input: string, ...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, ...argv], { encoding: "utf8", input });
  return { status, stdout, stderr };
}

test("the built command reads standard input", () => {
  expect(run('{"a": "${b}"}', "from-json", "-")).toEqual({
    status: 0,
    stdout: '{ a = "\\${b}"; }\n',
    stderr: "",
  });
});

test.each([
  [["from-json"]],
  [["nar-hash", "--unknown", "x"]],
  [["debian", "tree", "--suite", "trixie"]],
  [["debian", "lock", "x"]],
  [["nonsense"]],
])("%j is wrong usage", (argv) => {
  expect(run("", ...argv).status).toBe(2);
});

test.each([["from-json"], ["nar-hash"], ["debian lock"], ["debian tree"]])("%s has help with examples", (command) => {
  const { status, stdout } = run("", ...command.split(" "), "--help");
  expect(status).toBe(0);
  expect(stdout).toContain("Examples:");
});
