import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as zlib from "node:zlib";
import { describe, expect, test } from "vitest";
import {
  assembleUkiWithPolicies,
  type BuildUkiOptions,
  type BuildUkiProfileOptions,
  type Bytes,
  buildUki,
  buildUkiProfile,
  decodePe,
  encodeHardwareIds,
  encodePem,
  type HardwareDescription,
  inspectUki,
  parseHardwareDescription,
  parsePcrSignatures,
  readPeSection,
} from "../../src/index.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { fill, SBAT, testKernel } from "../support/pe.ts";
import { measureScript, systemdAddonStub, systemdStub, TREE_FILES, ukify } from "../support/systemd-tools.ts";

type Parts = Omit<BuildUkiOptions, "stub" | "joinProfiles">;
type Profile = Omit<BuildUkiProfileOptions, "stub">;
/** What ukify has flags for. */
type Flagged = Partial<Omit<Parts, "profile"> & Omit<Profile, "profile">> & Pick<Parts, "profile">;

const CHIDS = ["147efce9-f201-5fc8-ab0c-c859751c3440", "0cf8618d-9eff-537c-9f35-46861406eb9c"];
const MACHINES = [
  { name: "Hare 2", compatible: "hare,two", hwids: [CHIDS[1], CHIDS[0]] },
  { name: "Häre 1", compatible: "hare,one", hwids: [CHIDS[0]?.toUpperCase()] },
];
const HWIDS: HardwareDescription[] = MACHINES.map((machine) => parseHardwareDescription(JSON.stringify(machine)));

// Environment: UKI_SIGN_FULL_MATRIX=1 tests every combination of these; otherwise each alone, none and all of them.
const FULL = process.env.UKI_SIGN_FULL_MATRIX === "1";
const AXES: Record<string, Partial<Parts>> = {
  initrd: { initrd: [fill(5, 1), fill(8, 2)] },
  trees: { dtbauto: [fill(100, 3), fill(200, 4)], hwids: encodeHardwareIds(HWIDS) },
  extras: { splash: fill(3000, 3), ucode: fill(513, 5), sections: [{ name: ".own", data: fill(4096, 6) }] },
  sbat: { sbat: [`${SBAT}leveret,1,Leveret,leveret,1,https://example.org/\n`], dtb: fill(77, 7) },
};
const PROFILES: Record<string, readonly Profile[]> = {
  none: [],
  one: [{ profile: "ID=debug\nTITLE=Debug\n", cmdline: "debug" }],
  three: [
    { profile: "ID=a\n", cmdline: "a", splash: fill(10, 1), osRelease: "ID=other\n" },
    { profile: "ID=b\n", initrd: fill(99, 2), ucode: fill(12, 3), dtb: fill(30, 4) },
    { profile: "ID=c\n", uname: "6.12.41" },
  ],
};
const COMBINATIONS = Array.from({ length: 1 << Object.keys(AXES).length }, (_, bits) => bits);
const isWanted = (bits: number, profiles: string): boolean =>
  FULL || bits === 0 || bits === COMBINATIONS.length - 1 || (profiles === "none" && (bits & (bits - 1)) === 0);
const CELLS = Object.entries(PROFILES).flatMap(([profiles, own]) =>
  COMBINATIONS.map((bits) => {
    const chosen = Object.entries(AXES).filter((_axis, index) => (bits & (1 << index)) !== 0);
    const parts = Object.assign({ linux: testKernel(), uname: "6.12", osRelease: "ID=hare\n", cmdline: "quiet" });
    for (const [, axis] of chosen) Object.assign(parts, axis);
    const title = `${chosen.map(([name]) => name).join(", ") || "a kernel"} and ${profiles} profiles`;
    return { title, parts: parts as Parts, profiles: own, wanted: isWanted(bits, profiles) };
  }),
);
const MATRIX = CELLS.filter(({ wanted }) => wanted);

/** Writes parts to files and returns ukify's flags for them. */
function flagsOf(folder: string, parts: Flagged, prefix: string): string[] {
  const file = (name: string, content: string | Bytes): string => {
    const path = join(folder, `${prefix}${name}`);
    writeFileSync(path, content as string | Uint8Array);
    return path;
  };
  const flags: string[] = [];
  const single = { linux: parts.linux, splash: parts.splash, devicetree: parts.dtb, microcode: parts.ucode };
  for (const [name, content] of Object.entries(single)) if (content) flags.push(`--${name}=${file(name, content)}`);
  const texts = { cmdline: parts.cmdline, "os-release": parts.osRelease, profile: parts.profile };
  for (const [name, text] of Object.entries(texts)) if (text) flags.push(`--${name}=@${file(name, text)}`);
  if (parts.uname) flags.push(`--uname=${parts.uname}`);
  for (const [index, part] of [parts.initrd ?? []].flat().entries()) {
    flags.push(`--initrd=${file(`initrd${index}`, part as Uint8Array)}`);
  }
  for (const [index, tree] of (parts.dtbauto ?? []).entries()) {
    flags.push(`--devicetree-auto=${file(`dtbauto${index}`, tree)}`);
  }
  for (const [index, text] of (parts.sbat ?? []).entries()) flags.push(`--sbat=@${file(`sbat${index}`, text)}`);
  for (const { name, data } of parts.sections ?? []) flags.push(`--section=${name}:@${file(`own${name}`, data)}`);
  if (parts.hwids) {
    const machines = join(folder, "machines");
    mkdirSync(machines);
    for (const [index, machine] of MACHINES.entries()) {
      writeFileSync(join(machines, `${index}.json`), JSON.stringify(machine));
    }
    flags.push(`--hwids=${machines}`);
  }
  return flags;
}

/** Builds with ukify, profiles first, and returns the path. */
function ukifyBuild(folder: string, parts: Parts, profiles: readonly Profile[], more: readonly string[] = []): string {
  const [stub, addon] = [join(folder, "stub"), join(folder, "addon-stub")];
  writeFileSync(stub, systemdStub());
  writeFileSync(addon, systemdAddonStub());
  const joined = profiles.map((profile, index) => {
    const output = join(folder, `profile${index}.efi`);
    ukify(["build", `--stub=${addon}`, ...flagsOf(folder, profile, `p${index}-`), `--output=${output}`]);
    return output;
  });
  const output = join(folder, "theirs.efi");
  const flags = flagsOf(folder, profiles.length > 0 ? { ...parts, profile: "ID=main\n" } : parts, "");
  const join_ = joined.map((path) => `--join-profile=${path}`);
  ukify(["build", `--stub=${stub}`, ...flags, ...join_, ...more, `--output=${output}`]);
  return output;
}

const oursOf = (parts: Parts, profiles: readonly Profile[]): BuildUkiOptions => ({
  stub: systemdStub(),
  ...parts,
  ...(profiles.length > 0 ? { profile: "ID=main\n" } : {}),
  joinProfiles: profiles.map((profile) => buildUkiProfile({ stub: systemdAddonStub(), ...profile })),
});

describe("images of every combination of parts", () => {
  describeWith("are what ukify 257 makes and shows", [], TREE_FILES, () => {
    test.each(MATRIX)("$title", ({ parts, profiles }) => {
      const folder = scratch();
      const theirs = ukifyBuild(folder, parts, profiles);
      const ours = buildUki(oursOf(parts, profiles));
      expect(Buffer.compare(ours, readFileSync(theirs))).toBe(0);
      for (const index of profiles.keys()) {
        const profile = profiles[index] as Profile;
        const built = buildUkiProfile({ stub: systemdAddonStub(), ...profile });
        expect(Buffer.compare(built, readFileSync(join(folder, `profile${index}.efi`)))).toBe(0);
      }
      // Its JSON has one section of each name; its text has all of them.
      const shown = [...ukify(["inspect", theirs]).matchAll(/^(\.\w+):\n {2}size: (\d+) bytes\n {2}sha256: (\w+)$/gm)];
      const known = new Set(shown.map(([, name]) => name));
      expect(
        inspectUki(ours)
          .sections.filter(({ name }) => known.has(name))
          .map(({ name, sizeBytes, sha256 }) => [name, String(sizeBytes), sha256]),
      ).toEqual(shown.map(([, ...fields]) => fields));
    });
  });
});

describe("PCR policies", () => {
  describeWith("are what ukify 257 signs for", [], TREE_FILES, () => {
    // None with device trees: version 257's systemd-measure exchanges .dtbauto and .hwids.
    const interesting = CELLS.filter(({ title }) => /^(a kernel and|initrd, extras, sbat and (none|one))/.test(title));
    test.each(interesting)("$title", async ({ parts, profiles }) => {
      const folder = scratch();
      const signer = testSigner("pcr");
      const [key, publicKey] = [join(folder, "pcr.key"), join(folder, "pcr.pub")];
      writeFileSync(key, testPem("pcr"));
      writeFileSync(publicKey, encodePem("PUBLIC KEY", signer.publicKey));
      const keys = [`--pcr-private-key=${key}`, `--pcr-public-key=${publicKey}`, "--pcr-banks=sha256,sha384"];
      const tools = join(folder, "tools");
      mkdirSync(tools);
      writeFileSync(join(tools, "systemd-measure"), measureScript(), { mode: 0o755 });
      const theirs = new Uint8Array(
        readFileSync(
          ukifyBuild(folder, parts, profiles, [
            ...keys,
            "--phases=enter-initrd enter-initrd:leave-initrd",
            `--tools=${tools}`,
          ]),
        ),
      );
      const ours = await assembleUkiWithPolicies(oursOf(parts, profiles), [
        {
          signer,
          publicKey: signer.publicKey,
          banks: ["sha256", "sha384"],
          phasePaths: ["enter-initrd", "enter-initrd:leave-initrd"],
        },
      ]);
      const policies = (image: Bytes) =>
        decodePe(image)
          .sections.filter(({ name }) => name === ".pcrsig")
          .map((section) => parsePcrSignatures(readPeSection(image, section)));
      expect(policies(ours)).toEqual(policies(theirs));
      const others = (image: Bytes) => inspectUki(image).sections.filter(({ name }) => name !== ".pcrsig");
      const plain = (image: Bytes) => others(image).map(({ name, sha256 }) => [name, sha256]);
      expect(plain(ours)).toEqual(plain(theirs));
    });
  });
});

describe("kernels", () => {
  describeWith("are unpacked and named as ukify 257 does", [], TREE_FILES, () => {
    test.each([
      ["a bzImage", testKernel("6.12.41+test-amd64")],
      ["a bzImage packed with gzip", new Uint8Array(zlib.gzipSync(testKernel("6.12.41+test-amd64")))],
    ])("%s", (_name, linux) => {
      const parts = { linux, osRelease: "ID=hare\n" };
      const kernel = { ...parts, uname: "6.12.41+test-amd64" };
      const theirs = readFileSync(ukifyBuild(scratch(), kernel, []));
      expect(Buffer.compare(buildUki({ stub: systemdStub(), ...parts }), theirs)).toBe(0);
    });
  });
});
