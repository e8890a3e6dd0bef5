import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { encodePem, encodeVeritySignaturePartition, signCms, verifyVeritySignaturePartition } from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { REPART, systemdRepart } from "../support/systemd-tools.ts";

/** Partitions that systemd-repart makes of `data.img`: data, hash tree, signature. */
function definitions(folder: string): Record<string, readonly string[]> {
  return {
    "10.conf": ["Type=usr", `CopyBlocks=${join(folder, "data.img")}`, "Verity=data"],
    "20.conf": ["Type=usr-verity", "Verity=hash", "SizeMinBytes=10M"],
    "30.conf": ["Type=usr-verity-sig", "Verity=signature"],
  };
}

describeWith("systemd-repart", [], [REPART], () => {
  test("makes the same verity signature partition, byte for byte", async () => {
    const cwd = scratch();
    const certificate = await testCertificate();
    writeFileSync(join(cwd, "key.pem"), testPem(), { mode: 0o600 });
    writeFileSync(join(cwd, "cert.pem"), encodePem("CERTIFICATE", certificate.der));
    writeFileSync(join(cwd, "data.img"), Buffer.alloc(1 << 20, "hare"));
    mkdirSync(join(cwd, "defs"));
    for (const [name, lines] of Object.entries(definitions(cwd))) {
      writeFileSync(join(cwd, "defs", name), `${["[Partition]", ...lines, "VerityMatchKey=usr"].join("\n")}\n`);
    }
    const keys = ["--private-key=key.pem", "--certificate=cert.pem", "--definitions=defs"];
    const how = ["--empty=create", "--size=auto", "--dry-run=no", "--json=short"];
    const table: unknown = JSON.parse(systemdRepart([...how, ...keys, "disk.img"], cwd));
    const partitions = table as { type: string; offset: number; raw_size: number; roothash?: string }[];
    const rootHash = partitions.find(({ roothash }) => roothash)?.roothash ?? "";
    const { offset, raw_size } = partitions.find(({ type }) => type.endsWith("-verity-sig")) ?? {
      offset: 0,
      raw_size: 0,
    };
    const theirs = new Uint8Array(readFileSync(join(cwd, "disk.img")).subarray(offset, offset + raw_size));

    // Version 252 embeds the certificate, which nothing reads; the documented form, and ours, is without it.
    const content = new TextEncoder().encode(rootHash);
    const signer = testSigner();
    const signature = await signCms({ content, detached: true, attributes: "none", signer, certificate });
    const ours = encodeVeritySignaturePartition({ rootHash, certificate, signature });
    expect(Buffer.from(theirs).toString()).toBe(Buffer.from(ours).toString());
    expect(verifyVeritySignaturePartition(theirs, { rootHash, trusted: [certificate] }).rootHash).toBe(rootHash);
  });
});
