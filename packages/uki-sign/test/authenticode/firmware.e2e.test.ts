import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import {
  addPeSections,
  attachSignature,
  authenticodeDigest,
  type Certificate,
  type CreateCertificateOptions,
  decodePe,
  encodeIndirectData,
  enrollVariableStore,
  removeSignatures,
  signCms,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { ACCEPTED, bootDisk, efiProgram } from "../support/efi-program.ts";
import { bootUntil, OVMF_CODE, OVMF_VARS } from "../support/firmware.ts";
import { testSigner } from "../support/keys.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { fill } from "../support/pe.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4";
const PROGRAMS = ["qemu-system-x86_64", "mkfs.vfat", "mcopy"];

describeWith("firmware under Secure Boot and verifyPe agree that", PROGRAMS, [OVMF_CODE, OVMF_VARS], () => {
  let owner: Certificate;
  let stranger: Certificate;
  let vars: Uint8Array;
  const sign = (image: Uint8Array, name = "db", hash: "sha256" | "sha384" | "sha512" = "sha256") =>
    signPe(image, { signer: testSigner(name), certificate: name === "db" ? owner : stranger, hash });

  beforeAll(async () => {
    owner = await testCertificate("db", { isCa: true });
    stranger = await testCertificate("stranger");
    const [pk, kek] = [await testCertificate("pk"), await testCertificate("kek")];
    const timestamp = new Date("2026-11-21T00:00:00Z");
    vars = enrollVariableStore(readFileSync(OVMF_VARS), { pk, kek: [kek], db: [owner], owner: OWNER, timestamp });
  });

  const started = async (image: Uint8Array): Promise<boolean> => {
    const folder = scratch();
    const boot = await bootUntil(/No bootable option|LEVERET \w+\r?\n/, folder, bootDisk(folder, image), vars);
    return boot.console.includes(ACCEPTED);
  };
  const accepted = (image: Uint8Array): boolean => {
    try {
      return verifyPe(image, { db: { certificates: [owner] } }).signer !== undefined;
    } catch {
      return false;
    }
  };

  test.each<[string, () => Promise<Uint8Array>]>([
    ["a signed program", () => sign(efiProgram())],
    ["a program signed with SHA-512", () => sign(efiProgram(), "db", "sha512")],
    ["a program of a size that is no multiple of 8", () => sign(Uint8Array.of(...efiProgram(), 1, 2, 3))],
    ["a program with a stranger's signature before ours", async () => sign(await sign(efiProgram(), "stranger"))],
    [
      "a program whose headers grew for 40 more sections",
      () => {
        const sections = Array.from({ length: 40 }, (_, index) => ({ name: `.s${index}`, data: fill(5000, index) }));
        const image = addPeSections(efiProgram(), sections);
        expect(decodePe(image).sizeOfHeaders).toBeGreaterThan(decodePe(efiProgram()).sizeOfHeaders);
        return sign(image);
      },
    ],
  ])("%s may start", async (_name, make) => {
    const image = await make();
    expect([accepted(image), await started(image)]).toEqual([true, true]);
  });

  test.each<[string, () => Promise<Uint8Array>]>([
    [
      "a program signed with RSASSA-PSS may not start",
      async () => {
        const image = efiProgram();
        const content = encodeIndirectData({ hash: "sha256", digest: authenticodeDigest(image, "sha256") });
        const signer = testSigner("db");
        const options = { contentType: SPC_INDIRECT_DATA, content, signer, certificate: owner } as const;
        return attachSignature(image, await signCms({ ...options, padding: "pss" }));
      },
    ],
    [
      "nor one whose only good signature was removed",
      async () => removeSignatures(await sign(await sign(efiProgram()), "stranger"), owner),
    ],
  ])("%s", async (_name, make) => {
    const image = await make();
    expect([accepted(image), await started(image)]).toEqual([false, false]);
  });

  test.each<[string, Partial<CreateCertificateOptions>, number, "sha256" | "sha384"]>([
    ["with RSASSA-PSS, to a key of 3072 bits", { padding: "pss" }, 3072, "sha384"],
    [
      "for another purpose than signing code, to a key of 4096 bits",
      { extendedKeyUsage: ["1.3.6.1.5.5.7.3.1"] },
      4096,
      "sha256",
    ],
  ])("a program by a signer whose certificate was issued %s, may start", async (_name, options, bits, hash) => {
    const signer = testSigner(`leaf ${bits}`, bits);
    const certificate = await testCertificate("leaf", {
      publicKey: signer.publicKey,
      signer: testSigner("db"),
      issuer: owner,
      serialNumber: 9n,
      ...options,
    });
    const image = await signPe(efiProgram(), { signer, certificate, hash });
    expect([accepted(image), await started(image)]).toEqual([true, true]);
  });

  test("a program changed after it was signed may not start", async () => {
    const image = await sign(efiProgram());
    // The end of the section: zeros that are padding in the file, and covered all the same.
    const end = (decodePe(image).certificates?.address ?? 0) - 1;
    image[end] = 1;
    expect([accepted(image), await started(image)]).toEqual([false, false]);
  });
});
