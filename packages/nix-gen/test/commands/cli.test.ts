import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandIo } from "@leveret/command";
import { afterAll, beforeAll, expect, test } from "vitest";
import { main } from "../../src/cli.ts";

let cwd = "";
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), "nix-gen-cli-"));
  await writeFile(join(cwd, "data.json"), '{"text": "${x}", "size": 9223372036854775807}');
  await writeFile(join(cwd, "bad.json"), "[1,]");
  await writeFile(join(cwd, "latin1.json"), Uint8Array.of(0x22, 0xe9, 0x22));
});
afterAll(() => rm(cwd, { recursive: true, force: true }));

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const io: CommandIo = {
    stdout: { write: (text: string) => (out += text) },
    stderr: { write: (text: string) => (err += text) },
    env: {},
    cwd,
    signal: new AbortController().signal,
  };
  const code = await main(argv, io);
  return { code, out, err };
}

test("from-json prints an expression", async () => {
  const expression = '{\n  text = "\\${x}";\n  size = 9223372036854775807;\n}\n';
  expect(await run("from-json", "data.json")).toEqual({ code: 0, out: expression, err: "" });
  const { out } = await run("from-json", "--json", "data.json");
  expect(JSON.parse(out)).toEqual({ kind: "nix-gen.expression", version: 1, expression });
});

test("from-json says what is wrong and where", async () => {
  const bad = await run("from-json", "bad.json");
  expect(bad).toMatchObject({ code: 1, out: "" });
  expect(bad.err).toBe('error: expected a JSON value, got "]" (at offset 3) [NIX_GEN_BAD_JSON]\n');
  expect((await run("from-json", "latin1.json")).err).toContain("[NIX_GEN_IO]");
  expect((await run("from-json", "missing.json")).err).toContain("ENOENT (at missing.json) [NIX_GEN_IO]");
});

test("nar-hash prints a line per path", async () => {
  const hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".length;
  const { code, out } = await run("nar-hash", "data.json", ".");
  expect(code).toBe(0);
  expect(out.split("\n").map((line) => line.slice(hash))).toEqual(["  data.json", "  .", ""]);
  const document = JSON.parse((await run("nar-hash", "--json", "data.json")).out);
  expect(document).toEqual({
    kind: "nix-gen.nar-hash",
    version: 1,
    hashes: [{ path: "data.json", narHash: out.slice(0, hash) }],
  });
});
