import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  type BuildUkiOptions,
  type Bytes,
  buildUki,
  encodePem,
  inspectUki,
  measuredSections,
  PCR_BANKS,
  PCR_POLICY_BANKS,
  predictPcr11Table,
  predictPcrPolicies,
  renderPcrSignatures,
  signPcrPolicies,
} from "../../src/index.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { bytes, fill, SBAT, testKernel } from "../support/pe.ts";
import { systemdMeasure, systemdStub, TREE_FILES, ukify } from "../support/systemd-tools.ts";

type Parts = Omit<BuildUkiOptions, "stub">;

const OS_RELEASE = 'ID=leveret\nPRETTY_NAME="Häre"\n';
const KERNEL_SBAT = `${SBAT}linux,1,Linux,linux,6.12,https://kernel.org/\n\0`;
const CASES: [string, Parts][] = [
  // Without --os-release ukify takes the machine's own.
  ["kernel and os-release", { linux: testKernel(), uname: "6.12.41+test-amd64", osRelease: OS_RELEASE }],
  [
    "the usual parts",
    {
      linux: testKernel(),
      initrd: fill(70_001, 5),
      cmdline: "quiet  root=dissect\nmount.usr=dissect",
      osRelease: OS_RELEASE,
      uname: "6.12.41",
      sbat: [`${SBAT}leveret,1,Leveret,leveret,1,https://example.org/\n`],
    },
  ],
  [
    "every part",
    {
      linux: testKernel("1", {
        sections: [
          { name: ".text", data: fill(4000, 0x90) },
          { name: ".sbat", data: bytes(KERNEL_SBAT) },
        ],
      }),
      initrd: [fill(5, 1), fill(8, 2), fill(3, 3)],
      cmdline: bytes("quiet\n  from=a-file\n\n"),
      osRelease: OS_RELEASE,
      uname: "1",
      splash: fill(3000, 3),
      dtb: fill(512, 4),
      ucode: fill(513, 5),
      pcrpkey: "-----BEGIN PUBLIC KEY-----\n",
      sections: [{ name: ".own", data: fill(4096, 6) }],
    },
  ],
  [
    "a kernel without NX support",
    { linux: testKernel("1", { dllCharacteristics: 0 }), uname: "1", osRelease: OS_RELEASE },
  ],
];

/** The argument vector that makes ukify build the same image; every part goes through a file. */
function ukifyArguments(folder: string, parts: Parts, output: string): string[] {
  const file = (name: string, content: string | Bytes): string => {
    const path = join(folder, name);
    writeFileSync(path, content as string | Uint8Array);
    return path;
  };
  const argv = ["build", "--stub", file("stub", systemdStub()), "--linux", file("linux", parts.linux)];
  const initrds = parts.initrd === undefined ? [] : [parts.initrd].flat();
  for (const [index, part] of initrds.entries()) argv.push("--initrd", file(`initrd${index}`, part as Uint8Array));
  if (parts.uname !== undefined) argv.push("--uname", parts.uname);
  if (parts.osRelease !== undefined) argv.push("--os-release", `@${file("os-release", parts.osRelease)}`);
  // ukify takes a command line in a file as it is, and one in an argument with its blanks joined.
  const { cmdline } = parts;
  if (cmdline !== undefined) {
    argv.push("--cmdline", typeof cmdline === "string" ? cmdline : `@${file("cmdline", cmdline)}`);
  }
  const binaries = { splash: parts.splash, devicetree: parts.dtb, microcode: parts.ucode, pcrpkey: parts.pcrpkey };
  for (const [name, value] of Object.entries(binaries)) {
    if (value !== undefined) argv.push(`--${name}`, file(name, value));
  }
  for (const [index, text] of (parts.sbat ?? []).entries()) argv.push("--sbat", `@${file(`sbat${index}`, text)}`);
  for (const { name, data } of parts.sections ?? []) argv.push(`--section=${name}:@${file(`section${name}`, data)}`);
  return [...argv, "--output", output];
}

describeWith("ukify 257", [], TREE_FILES, () => {
  test.each(CASES)("builds the same image from %s, byte for byte", (_name, parts) => {
    const folder = scratch();
    const theirs = join(folder, "theirs.efi");
    ukify(ukifyArguments(folder, parts, theirs));
    const ours = buildUki({ stub: systemdStub(), ...parts });
    expect(Buffer.compare(ours, readFileSync(theirs))).toBe(0);
  });

  test.each(CASES)("reads in our image of %s what we read", (_name, parts) => {
    const path = join(scratch(), "ours.efi");
    const image = buildUki({ stub: systemdStub(), ...parts, profile: "ID=main\n", pcrsig: "{}" });
    writeFileSync(path, image);
    const theirs = JSON.parse(ukify(["inspect", path, "--json=short"]));
    const ours = inspectUki(image).sections.filter(({ name }) => name in theirs);
    expect(
      Object.fromEntries(ours.map(({ name, sizeBytes, sha256, text }) => [name, { sizeBytes, sha256, text }])),
    ).toEqual(
      Object.fromEntries(
        Object.entries<{ size: number; sha256: string; text?: string }>(theirs).map(([name, section]) => [
          name,
          { sizeBytes: section.size, sha256: section.sha256, text: section.text },
        ]),
      ),
    );
  });
});

describeWith("systemd-measure 257", [], TREE_FILES, () => {
  test.each(CASES)("predicts the same PCR 11 for %s in every phase and bank", (_name, parts) => {
    const folder = scratch();
    const sections = measuredSections(buildUki({ stub: systemdStub(), ...parts, profile: "ID=main\n" }));
    const files = sections.map(({ name, data }) => {
      const path = join(folder, name);
      writeFileSync(path, data);
      return `--${name.slice(1)}=${path}`;
    });
    const theirs: Record<string, { phase: string; hash: string }[]> = JSON.parse(
      systemdMeasure(["calculate", ...files, ...PCR_BANKS.map((bank) => `--bank=${bank}`), "--json=short"]),
    );
    const ours = predictPcr11Table({ sections });
    expect(ours).toHaveLength(16);
    for (const { bank, phasePath, value } of ours) {
      const line = theirs[bank]?.find(({ phase }) => phase === phasePath);
      expect([bank, phasePath, Buffer.from(value).toString("hex")]).toEqual([bank, phasePath, line?.hash]);
    }
  });

  test.each(CASES)("signs the same policies for %s, character for character", async (_name, parts) => {
    const folder = scratch();
    const sections = measuredSections(buildUki({ stub: systemdStub(), ...parts }));
    const files = sections.map(({ name, data }) => {
      const path = join(folder, name);
      writeFileSync(path, data);
      return `--${name.slice(1)}=${path}`;
    });
    const signer = testSigner("pcr");
    const [key, publicKey] = [join(folder, "key.pem"), join(folder, "pub.pem")];
    writeFileSync(key, testPem("pcr"));
    writeFileSync(publicKey, encodePem("PUBLIC KEY", signer.publicKey));
    const keys = [`--private-key=${key}`, `--public-key=${publicKey}`, "--json=short"];
    const sign = (...argv: string[]) => systemdMeasure(["sign", ...files, ...keys, ...argv]);

    const all = await signPcrPolicies(predictPcrPolicies({ sections }), signer, signer.publicKey);
    expect(renderPcrSignatures(all)).toBe(sign(...PCR_POLICY_BANKS.map((bank) => `--bank=${bank}`)));
    const policies = predictPcrPolicies({ sections, banks: ["sha384"], phasePaths: ["enter-initrd:other", ":"] });
    const some = await signPcrPolicies(policies, signer, signer.publicKey);
    expect(renderPcrSignatures(some)).toBe(sign("--bank=sha384", "--phase=enter-initrd:other", "--phase=:"));
  });
});
