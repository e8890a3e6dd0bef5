import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { encodePem } from "../src/index.ts";
import { testCertificate } from "./support/certificates.ts";
import { testPem } from "./support/keys.ts";
import { scratch } from "./support/oracles.ts";
import { fill, testKernel, testStub } from "./support/pe.ts";

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
