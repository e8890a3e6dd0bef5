import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  type BuildUkiOptions,
  buildUki,
  type Certificate,
  decodePe,
  encodePem,
  enrollVariableStore,
  inspectUki,
  measuredSections,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { ACCEPTED, bootDisk, efiProgram } from "../support/efi-program.ts";
import { bootUntil, OVMF_CODE, OVMF_VARS, QEMU } from "../support/firmware.ts";
import { testSigner } from "../support/keys.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { fill, SBAT, testKernel, withU16 } from "../support/pe.ts";
import { BOOKWORM_STUB, systemdStub, TREE_FILES, ukify } from "../support/systemd-tools.ts";

const SYMBOL_TABLE = 8;
const stub = (): Uint8Array => new Uint8Array(readFileSync(BOOKWORM_STUB));
const parts = (linux: Uint8Array, sbat?: string): BuildUkiOptions => ({
  ...{ stub: stub(), linux, uname: "6.1", osRelease: "ID=hare\n", cmdline: "quiet", initrd: fill(5000, 1) },
  ...(sbat === undefined ? {} : { sbat: [sbat] }),
});

/** Builds with ukify what {@link parts} are. */
function theirs(folder: string, linux: Uint8Array, sbat?: string): string {
  const file = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const { uname, osRelease, cmdline, initrd } = parts(linux);
  const flags = [`--uname=${uname}`, `--os-release=@${file("os-release", String(osRelease))}`, `--cmdline=${cmdline}`];
  const files = [`--linux=${file("linux", linux)}`, `--initrd=${file("initrd", initrd as Uint8Array)}`];
  const output = join(folder, "theirs.efi");
  const more = sbat === undefined ? [] : [`--sbat=@${file("sbat", sbat)}`];
  ukify(["build", `--stub=${BOOKWORM_STUB}`, ...flags, ...files, ...more, `--output=${output}`]);
  return output;
}

describe("the stub of Debian 12, which came with its symbols,", () => {
  describeWith("makes what ukify 257 makes of it", [], [BOOKWORM_STUB, ...TREE_FILES], () => {
    test("byte for byte when .sbat fits where it was", () => {
      const symbols = (image: Uint8Array) =>
        new DataView(image.buffer).getUint32(decodePe(image).peOffset + 4 + SYMBOL_TABLE, true);
      expect(symbols(stub())).toBeGreaterThan(0);
      const image = buildUki(parts(testKernel(), SBAT));
      expect(symbols(image)).toBe(0);
      expect(Buffer.compare(image, readFileSync(theirs(scratch(), testKernel(), SBAT)))).toBe(0);
    });

    test("section for section when it does not, without one in the memory of another", () => {
      const image = buildUki(parts(testKernel()));
      const sectionsOf = (file: Uint8Array) =>
        inspectUki(file)
          .sections.map(({ name, sizeBytes, sha256 }) => [name, sizeBytes, sha256])
          .sort();
      expect(sectionsOf(image)).toEqual(sectionsOf(new Uint8Array(readFileSync(theirs(scratch(), testKernel())))));
      const path = join(scratch(), "ours.efi");
      writeFileSync(path, image);
      const shown: Record<string, { sha256: string }> = JSON.parse(ukify(["inspect", path, "--json=short"]));
      const { sections } = inspectUki(image);
      expect(shown[".sbat"]?.sha256).toBe(sections.find(({ name }) => name === ".sbat")?.sha256);
      let end = 0;
      for (const { virtualAddress, virtualSize } of decodePe(image).sections) {
        expect(virtualAddress).toBeGreaterThanOrEqual(end);
        end = virtualAddress + virtualSize;
      }
    });
  });

  describeWith("measures only", [], [BOOKWORM_STUB, ...TREE_FILES], () => {
    test("the sections that version 252 knows", () => {
      const names = (stub: Uint8Array) =>
        measuredSections(buildUki({ ...parts(testKernel()), stub })).map(({ name }) => name);
      expect(names(stub())).toEqual([".linux", ".osrel", ".cmdline", ".initrd"]);
      expect(names(systemdStub())).toEqual([".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]);
    });
  });

  const tools = [QEMU, "mkfs.vfat", "mcopy", "sbverify", "pesign"];
  describeWith("makes an image that, once signed,", tools, [BOOKWORM_STUB, OVMF_CODE, OVMF_VARS], () => {
    let certificate: Certificate;
    let signed: Uint8Array;

    beforeAll(async () => {
      certificate = await testCertificate("db", { isCa: true });
      // MajorImageVersion: the stub starts what says 0 as it did kernels before 5.8.
      const kernel = withU16(efiProgram(), 0x58 + 44, 1);
      signed = await signPe(buildUki(parts(kernel)), { signer: testSigner("db"), certificate });
    });

    test("other tools verify", () => {
      const cwd = scratch();
      writeFileSync(join(cwd, "image.efi"), signed);
      writeFileSync(join(cwd, "db.pem"), encodePem("CERTIFICATE", certificate.der));
      expect(run("sbverify", ["--cert", "db.pem", "image.efi"], cwd)).toMatch(/OK/);
      const { digest } = verifyPe(signed, { db: { certificates: [certificate] } });
      expect(run("pesign", ["-h", "-i", "image.efi"], cwd)).toBe(`hash: ${Buffer.from(digest).toString("hex")}\n`);
    });

    test("starts the kernel in it under Secure Boot", async () => {
      const folder = scratch();
      const [pk, kek] = [await testCertificate("pk"), await testCertificate("kek")];
      const owner = "01020304-0506-0708-090a-0b0c0d0e0f10";
      const timestamp = new Date("2026-11-21T00:00:00Z");
      const store = enrollVariableStore(readFileSync(OVMF_VARS), {
        pk,
        kek: [kek],
        db: [certificate],
        owner,
        timestamp,
      });
      const boot = await bootUntil(/No bootable option|LEVERET \w+\r?\n/, folder, bootDisk(folder, signed), store);
      expect(boot.console).toContain(ACCEPTED);
    });
  });
});
