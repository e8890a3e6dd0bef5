import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { encodePem } from "../src/index.ts";
import { testCertificate } from "./support/certificates.ts";
import { cliWorkspace } from "./support/cli.ts";
import { testPem } from "./support/keys.ts";
import { scratch } from "./support/oracles.ts";
import { fill, testKernel, testStub } from "./support/pe.ts";

test("the README's lines about keys work one after the other", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const [, block = ""] = /```sh\n(mkdir -p .*?)```/s.exec(readme) ?? [];
  const lines = block.trim().split("\n");
  expect(lines).toHaveLength(5);
  const { folder, run } = cliWorkspace({ "linuxx64.efi.stub": testStub(), vmlinuz: testKernel() });
  expect(await run("keys", "generate", "keys")).toMatchObject({ exitCode: 0 });
  // Without the first line the second one says what is missing, and names nothing that nobody asked for.
  expect(await run("keys", "export", "keys", "-o", "esp/loader/keys/auto")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/expected a directory for \S+\/esp\/loader\/keys\/auto, got none/),
  });
  for (const line of lines) {
    const [command, ...words] = line.split(" ");
    if (command === "mkdir") mkdirSync(join(folder, words[1] ?? ""), { recursive: true });
    else expect({ line, ...(await run(...words)) }).toMatchObject({ line, exitCode: 0, stderr: "" });
  }
});

test("the README's example runs on the built package and prints what the README says", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const [, example = "", output = ""] = /```js\n(.*?)```\n\nprints\n\n```text\n(.*?)```/s.exec(readme) ?? [];
  const folder = scratch();
  const certificate = await testCertificate("db", { subject: { commonName: "hare db" } });
  const files = {
    stub: testStub(),
    vmlinuz: testKernel("6.12.41+deb13-cloud-amd64"),
    initrd: fill(100_000, 1),
    "db.key": testPem("db"),
    "db.crt": encodePem("CERTIFICATE", certificate.der),
    "example.mjs": example.replace("@leveret/uki-sign", new URL("../dist/index.js", import.meta.url).href),
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  expect(execFileSync(process.execPath, ["example.mjs"], { cwd: folder, encoding: "utf8" })).toBe(output);
});

test("the declarations need neither another package nor a new TypeScript", () => {
  const declarations = readFileSync(new URL("../dist/index.d.ts", import.meta.url), "utf8");
  // Views of array buffers have a type parameter since TypeScript 5.7.
  expect(declarations.match(/from ["'](?!node:)[^"']+["']|Uint8Array<|ArrayBufferLike/g) ?? []).toEqual([]);
});
