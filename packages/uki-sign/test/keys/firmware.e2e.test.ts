import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import {
  decodeCertificate,
  decodeSignatureLists,
  decodeVariableStore,
  enrollVariableStore,
  exportKeys,
  type KeySet,
  rotateKeys,
  SECURE_BOOT_VARIABLE_ATTRIBUTES,
  type SignedUpdate,
  secureBootVariableGuid,
  signPe,
} from "../../src/index.ts";
import { ACCEPTED, bootDisk, efiProgram } from "../support/efi-program.ts";
import { bootUntil, OVMF_CODE, OVMF_VARS, QEMU } from "../support/firmware.ts";
import { testKeySet } from "../support/key-set.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { SYSTEMD_BOOT } from "../support/systemd-tools.ts";

const APPEND_WRITE = 0x40;
const PROGRAMS = [QEMU, "mkfs.vfat", "mcopy", "mmd"];

/** Subjects of the certificates in PK, KEK, db and dbx of a store. */
function subjects(vars: Uint8Array): Record<string, string[]> {
  const { variables } = decodeVariableStore(vars);
  const known = variables.filter(({ name, guid }) => secureBootVariableGuid(name) === guid);
  const entries = (value: Uint8Array) => decodeSignatureLists(value).flatMap(({ signatures }) => signatures);
  return Object.fromEntries(
    known.map(({ name, data }) => [
      name,
      entries(data).map((entry) => decodeCertificate(entry.data).subject.replace("CN=leveret ", "")),
    ]),
  );
}

describeWith("firmware", PROGRAMS, [OVMF_CODE, OVMF_VARS], () => {
  let previous: KeySet;
  let next: KeySet;

  beforeAll(async () => {
    previous = await testKeySet("previous");
    next = await testKeySet("next");
  });

  test("takes every update of a rotation, in its order, from programs that the hierarchy of its step signed", async () => {
    const { PK: pk, KEK, db } = previous.certificates;
    const enrolment = { pk, kek: [KEK], db: [db], owner: previous.owner, timestamp: pk.notBefore };
    let vars = enrollVariableStore(readFileSync(OVMF_VARS), enrolment);
    const { introduce, retire } = await rotateKeys(previous, next, { timestamp: new Date("2027-01-01"), revoke: {} });
    const apply = async ({ name, append, auth }: SignedUpdate, keys: KeySet): Promise<void> => {
      const attributes = SECURE_BOOT_VARIABLE_ATTRIBUTES | (append ? APPEND_WRITE : 0);
      const program = efiProgram({ name, guid: secureBootVariableGuid(name), attributes, data: auth });
      const signed = await signPe(program, { signer: keys.signers.db, certificate: keys.certificates.db });
      const folder = scratch();
      const boot = await bootUntil(/No bootable option|LEVERET \w+\r?\n/, folder, bootDisk(folder, signed), vars);
      expect([name, boot.console.includes(ACCEPTED)]).toEqual([name, true]);
      vars = boot.vars;
    };
    for (const update of introduce) await apply(update, previous);
    expect(subjects(vars)).toEqual({
      PK: ["previous PK"],
      KEK: ["previous KEK", "next KEK"],
      db: ["previous db", "next db"],
    });
    for (const update of retire) await apply(update, next);
    expect(subjects(vars)).toEqual({ PK: ["next PK"], KEK: ["next KEK"], db: ["next db"], dbx: ["previous db"] });
  });
});

describeWith("systemd-boot 257", PROGRAMS, [OVMF_CODE, OVMF_VARS, SYSTEMD_BOOT], () => {
  test("enrols what was exported, after which firmware refuses what nobody signed", async () => {
    const keys = await testKeySet("previous");
    const updates = await exportKeys(keys, { dbx: [(await testKeySet("next")).certificates.db] });
    const auth = updates.map(({ name, auth }) => [`loader/keys/auto/${name}.auth`, auth]);
    const folder = scratch();
    const disk = bootDisk(folder, readFileSync(SYSTEMD_BOOT), {
      "loader/loader.conf": "timeout 0\nsecure-boot-enroll force\n",
      ...Object.fromEntries(auth),
    });
    const { vars } = await bootUntil(/Access Denied|Security Violation/, folder, disk, readFileSync(OVMF_VARS));
    expect(subjects(vars)).toEqual({
      PK: ["previous PK"],
      KEK: ["previous KEK"],
      db: ["previous db"],
      dbx: ["next db"],
    });
  });
});
