import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  type Certificate,
  certificateLists,
  decodeCertificate,
  decodeSignatureLists,
  decodeVariableStore,
  encodePem,
  encodeSignatureLists,
  enrollVariableStore,
  SECURE_BOOT_VARIABLE_ATTRIBUTES,
  type StoredVariable,
  secureBootVariableGuid,
  signVariable,
} from "../src/index.ts";
import { testCertificate } from "./support/certificates.ts";
import { ACCEPTED, bootDisk, efiProgram, REFUSED } from "./support/efi-program.ts";
import { bootUntil, OVMF_CODE, OVMF_ENROLLED, OVMF_VARS, QEMU } from "./support/firmware.ts";
import { testPem, testSigner } from "./support/keys.ts";
import { describeWith, run, scratch } from "./support/oracles.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const APPEND = SECURE_BOOT_VARIABLE_ATTRIBUTES | 0x40;
const PROGRAMS = [QEMU, "sbsign", "mkfs.vfat", "mcopy"];
const timestamp = new Date("2026-11-21T00:00:00Z");
const later = new Date("2026-11-22T00:00:00Z");

/** `program` signed by the test key `name` with sbsign. */
function sign(folder: string, program: Uint8Array, name: string, certificate: Certificate): Uint8Array {
  writeFileSync(join(folder, "program"), program);
  writeFileSync(join(folder, "key"), testPem(name));
  writeFileSync(join(folder, "cert"), encodePem("CERTIFICATE", certificate.der));
  run("sbsign", ["--key", "key", "--cert", "cert", "--output", "signed", "program"], folder);
  return readFileSync(join(folder, "signed"));
}

/** Subjects of the certificates in a variable of a store. */
function subjects(vars: Uint8Array, name: string): string[] {
  const variable = decodeVariableStore(vars).variables.find((stored) => stored.name === name);
  const lists = decodeSignatureLists(variable?.data ?? new Uint8Array());
  return lists.flatMap(({ signatures }) => signatures.map(({ data }) => decodeCertificate(data).subject));
}

/** The named variables of a store, in the order of their names. */
function state(vars: Uint8Array, names: readonly string[]): StoredVariable[] {
  const { variables } = decodeVariableStore(vars);
  return variables.filter(({ name }) => names.includes(name)).sort((a, b) => a.name.localeCompare(b.name));
}

describeWith("firmware with a store enrolled here", PROGRAMS, [OVMF_CODE, OVMF_VARS, ...OVMF_ENROLLED], () => {
  let certificates: { pk: Certificate; kek: Certificate; db: Certificate; stranger: Certificate };
  let vars: Uint8Array;

  beforeAll(async () => {
    const [pk, kek] = [await testCertificate("pk"), await testCertificate("kek")];
    const [db, stranger] = [await testCertificate("db"), await testCertificate("stranger")];
    certificates = { pk, kek, db, stranger };
    const template = readFileSync(OVMF_VARS);
    vars = enrollVariableStore(template, { pk, kek: [kek], db: [db], owner: OWNER, timestamp });
  });

  test("holds the state that enrolment inside the firmware left in Debian's own stores", () => {
    const names = ["SecureBootEnable", "CustomMode", "VendorKeysNv"];
    for (const path of OVMF_ENROLLED) expect(state(vars, names)).toEqual(state(readFileSync(path), names));
  });

  describe("on its very first boot", () => {
    test("starts what a key in db signed", async () => {
      const folder = scratch();
      const disk = bootDisk(folder, sign(folder, efiProgram(), "db", certificates.db));
      const boot = await bootUntil(new RegExp(`${ACCEPTED}|Access Denied|Security Violation`), folder, disk, vars);
      expect(boot.console).toContain(ACCEPTED);
      // Firmware has by now written variables of its own beside ours.
      expect(subjects(boot.vars, "db")).toEqual(["CN=leveret db"]);
      expect(decodeVariableStore(boot.vars).variables.map(({ name }) => name)).toContain("Boot0000");
    });

    test.each(["nobody", "stranger"] as const)("refuses what %s signed", async (signer) => {
      const folder = scratch();
      const program = signer === "nobody" ? efiProgram() : sign(folder, efiProgram(), signer, certificates[signer]);
      const boot = await bootUntil(/No bootable option|LEVERET/, folder, bootDisk(folder, program), vars);
      expect(boot.console).toMatch(/failed to (load|start) Boot\d+ .*(Access Denied|Security Violation)/);
      expect(boot.console).not.toContain("LEVERET");
    });

    test("refuses what dbx forbids although db allows it", async () => {
      const folder = scratch();
      const { pk, kek, db } = certificates;
      const options = { pk, kek: [kek], db: [db], dbx: [db], owner: OWNER, timestamp };
      const disk = bootDisk(folder, sign(folder, efiProgram(), "db", db));
      const store = enrollVariableStore(readFileSync(OVMF_VARS), options);
      const boot = await bootUntil(/No bootable option|LEVERET/, folder, disk, store);
      expect(boot.console).toMatch(/failed to (load|start) Boot\d+ .*(Access Denied|Security Violation)/);
    });
  });

  describe("asked to add to db", () => {
    test.each([
      ["obeys when a KEK signed", "kek"],
      ["refuses when another key signed", "stranger"],
    ] as const)("%s", async (_title, signer) => {
      const folder = scratch();
      const data = await signVariable({
        name: "db",
        append: true,
        data: encodeSignatureLists(certificateLists([certificates.stranger], OWNER)),
        timestamp: later,
        signer: testSigner(signer),
        certificate: certificates[signer],
      });
      const guid = secureBootVariableGuid("db");
      const program = efiProgram({ name: "db", guid, attributes: APPEND, data });
      const disk = bootDisk(folder, sign(folder, program, "db", certificates.db));
      const boot = await bootUntil(/LEVERET \w+\r?\n/, folder, disk, vars);
      expect(boot.console).toContain(signer === "kek" ? ACCEPTED : REFUSED);
      const expected = signer === "kek" ? ["CN=leveret db", "CN=leveret stranger"] : ["CN=leveret db"];
      expect(subjects(boot.vars, "db")).toEqual(expected);
    });
  });

  test("in setup mode takes a platform key that signs itself", async () => {
    const folder = scratch();
    const data = await signVariable({
      name: "PK",
      data: encodeSignatureLists(certificateLists([certificates.pk], OWNER)),
      timestamp,
      signer: testSigner("pk"),
      certificate: certificates.pk,
    });
    const guid = secureBootVariableGuid("PK");
    const program = efiProgram({ name: "PK", guid, attributes: SECURE_BOOT_VARIABLE_ATTRIBUTES, data });
    const boot = await bootUntil(/LEVERET \w+\r?\n/, folder, bootDisk(folder, program), readFileSync(OVMF_VARS));
    expect(boot.console).toContain(ACCEPTED);
    expect(state(boot.vars, ["PK", "SecureBootEnable", "CustomMode"])).toEqual(
      state(vars, ["PK", "SecureBootEnable", "CustomMode"]),
    );
  });
});
