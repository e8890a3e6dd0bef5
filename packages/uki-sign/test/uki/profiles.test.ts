import { describe, expect, test } from "vitest";
import {
  assembleUkiWithPolicies,
  type BuildUkiProfileOptions,
  buildUki,
  buildUkiProfile,
  decodePe,
  inspectUki,
  measuredSections,
  parsePcrSignatures,
  predictPcrPolicies,
  readPeSection,
  verifyPcrSignature,
} from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { fill, testKernel, testPe, testStub } from "../support/pe.ts";

const stub = testStub();
const base = { stub, linux: testKernel("6.12"), cmdline: "quiet", initrd: fill(50, 1), osRelease: "ID=hare\n" };
const profile = (id: string, options: Partial<BuildUkiProfileOptions> = {}) =>
  buildUkiProfile({ stub, profile: `ID=${id}\nTITLE="The ${id} one"\n`, ...options });
const debug = profile("debug", { cmdline: "debug", osRelease: "ID=other\n" });
const rescue = profile("rescue", { initrd: fill(9, 9) });
const image = buildUki({
  ...base,
  profile: "ID=main\n",
  joinProfiles: [debug, rescue],
  pcrsig: ["{}", undefined, "[]"],
});

describe("profiles", () => {
  test("follow the base, each with its own sections", () => {
    const { kind, profiles, sections } = inspectUki(image);
    expect(kind).toBe("image");
    expect(profiles).toEqual([
      { index: 0, id: "main", title: undefined },
      { index: 1, id: "debug", title: "The debug one" },
      { index: 2, id: "rescue", title: "The rescue one" },
    ]);
    const own = (index: number) => sections.flatMap(({ name, profile }) => (profile === index ? [name] : []));
    expect([own(0), own(1), own(2)]).toEqual([
      [".profile", ".pcrsig"],
      [".profile", ".osrel", ".cmdline"],
      [".profile", ".initrd", ".pcrsig"],
    ]);
    expect(inspectUki(debug).kind).toBe("profile");
  });

  test("are measured with what they have of their own in place of the base's", () => {
    const sizes = (index: number) =>
      Object.fromEntries(measuredSections(image, { profile: index }).map(({ name, data }) => [name, data.length]));
    expect(sizes(0)).toMatchObject({ ".cmdline": 5, ".initrd": 50, ".profile": 8 });
    expect(sizes(1)).toMatchObject({ ".cmdline": 5, ".initrd": 50, ".osrel": 9 });
    expect(sizes(2)).toMatchObject({ ".cmdline": 5, ".initrd": 9, ".osrel": 8 });
    expect(errorOf(() => sizes(3)).code).toBe("UKI_SIGN_SECTION_MISSING");
  });

  test("bring no os-release into an image without one, as ukify has it", () => {
    const { osRelease: _none, ...rest } = base;
    const names = inspectUki(buildUki({ ...rest, profile: "ID=main", joinProfiles: [debug] })).sections;
    expect(names.map(({ name }) => name)).not.toContain(".osrel");
  });

  test.each<[string, () => unknown, string, string]>([
    ["no profile of the base", () => buildUki({ ...base, joinProfiles: [debug] }), "UKI_SIGN_BAD_OPTIONS", "profile"],
    [
      "more signatures than profiles",
      () => buildUki({ ...base, pcrsig: ["{}", "{}"] }),
      "UKI_SIGN_BAD_OPTIONS",
      "pcrsig",
    ],
    [
      "an image that is no profile",
      () => buildUki({ ...base, profile: "ID=main", joinProfiles: [debug, stub] }),
      "UKI_SIGN_PROFILE_INVALID",
      "joinProfiles[1]",
    ],
    [
      "an image with two profiles",
      () => buildUki({ ...base, profile: "ID=main", joinProfiles: [image] }),
      "UKI_SIGN_PROFILE_INVALID",
      "joinProfiles[0]",
    ],
    [
      "a profile with a section twice",
      () => {
        const sections = [".profile", ".cmdline", ".cmdline"].map((name) => ({ name, data: fill(3, 65) }));
        buildUki({ ...base, profile: "ID=main", joinProfiles: [testPe({ sections })] });
      },
      "UKI_SIGN_PROFILE_INVALID",
      "joinProfiles[0]",
    ],
  ])("refuses %s", (_name, build, code, field) => {
    const error = errorOf(build);
    expect([error.code, error.field]).toEqual([code, field]);
  });
});

describe("assembleUkiWithPolicies", () => {
  const signer = testSigner("pcr");
  const signers = [{ signer, publicKey: signer.publicKey, banks: ["sha256"] as const, phasePaths: ["enter-initrd"] }];

  test("signs what each profile measures, with the key in the image", async () => {
    const built = await assembleUkiWithPolicies({ ...base, profile: "ID=main", joinProfiles: [debug] }, signers);
    const signatures = decodePe(built).sections.filter(({ name }) => name === ".pcrsig");
    expect(signatures).toHaveLength(2);
    for (const [index, section] of signatures.entries()) {
      const [signature, ...others] = parsePcrSignatures(readPeSection(built, section));
      const sections = measuredSections(built, { profile: index });
      const [policy] = predictPcrPolicies({ sections, banks: ["sha256"], phasePaths: ["enter-initrd"] });
      expect([signature?.policy, others]).toEqual([policy?.policy, []]);
      if (signature !== undefined) verifyPcrSignature(signature, signer.publicKey);
    }
    expect(inspectUki(built).sections.find(({ name }) => name === ".pcrpkey")?.text).toMatch(/^-----BEGIN PUBLIC KEY/);
  });

  test("signs for each device tree that the machine may pick, and each policy once", async () => {
    const dtbauto = [fill(10, 1), fill(10, 2), fill(10, 1)];
    const built = await assembleUkiWithPolicies({ ...base, dtbauto }, signers);
    const section = decodePe(built).sections.find(({ name }) => name === ".pcrsig");
    expect(section && parsePcrSignatures(readPeSection(built, section))).toHaveLength(2);
  });
});
