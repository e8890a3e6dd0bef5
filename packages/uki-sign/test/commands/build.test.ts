import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeHardwareIds, decodePe, inspectUki, parsePcrSignatures, readPeSection } from "../../src/index.ts";
import { cliWorkspace } from "../support/cli.ts";
import { testPem } from "../support/keys.ts";
import { fill, testKernel, testPe, testStub } from "../support/pe.ts";

const CHID = "6de5d951-d755-576b-bd09-c5cf66b27234";
const FILES = {
  stub: testStub(),
  // An addon's stub has no .sbat section.
  addon: testPe(),
  linux: testKernel("6.12"),
  tree: fill(20, 1),
  "pcr.key": testPem("pcr"),
  "laptop.json": JSON.stringify({ name: "Laptop", compatible: "hare,laptop", hwids: [CHID] }),
};
const BUILD = ["build", "--stub", "stub", "--linux", "linux", "--cmdline", "quiet", "-o", "linux.efi"];
const PROFILE = [
  "build",
  "--stub",
  "addon",
  "--profile",
  "ID=debug\nTITLE=Debug",
  "--cmdline",
  "debug",
  "-o",
  "debug.efi",
];

/** A workspace with an image of two profiles. */
async function profiles(...more: string[]) {
  const workspace = cliWorkspace(FILES);
  expect((await workspace.run(...PROFILE)).stderr).toBe("");
  const joined = [...BUILD, "--profile", "ID=main", "--join-profile", "debug.efi", ...more];
  return { ...workspace, result: await workspace.run(...joined) };
}

describe("uki-sign build", () => {
  test("makes an addon when there is no kernel", async () => {
    const { run } = cliWorkspace(FILES);
    const { stdout, stderr } = await run("build", "--stub", "addon", "--cmdline", "debug", "-o", "debug.addon.efi");
    expect([stdout, stderr]).toEqual(["debug.addon.efi: addon, 3.5 KiB, 4 sections, unsigned\n", ""]);
    const { stdout: document } = await run("inspect", "debug.addon.efi", "--json");
    expect(JSON.parse(document)).toMatchObject({ kind: "uki-inspect", contains: "addon" });
  });

  test("takes the command line in a file as it is, and joins the blanks of one that is given as text", async () => {
    const { run, folder } = cliWorkspace({ ...FILES, line: "quiet\n  debug\n" });
    for (const [given, expected] of [
      ["@line", "quiet\n  debug\n"],
      ["quiet\n  debug\n", "quiet debug"],
    ] as const) {
      await run("build", "--stub", "addon", "--cmdline", given, "-o", "line.addon.efi");
      const { sections } = inspectUki(readFileSync(join(folder, "line.addon.efi")));
      expect(sections.find(({ name }) => name === ".cmdline")?.text).toBe(expected);
    }
  });

  test("makes a profile when there is a description of one and no kernel, and joins it", async () => {
    const { run, result } = await profiles();
    expect(result.stdout).toMatch(/^linux\.efi: .* 9 sections, 2 profiles, unsigned\n$/);
    const { stdout } = await run("inspect", "linux.efi");
    expect(stdout).toMatch(/^\.cmdline +5 B +1 +[0-9a-f]{64}$/m);
    expect(stdout).toMatch(/^\.linux +\S+ KiB +all +[0-9a-f]{64}$/m);
    expect(stdout).toContain("\n.profile of profile 1\n  ID=debug\n  TITLE=Debug\n");
    const measure = async (profile: string) =>
      JSON.parse((await run("measure", "--profile", profile, "--bank", "sha256", "--json", "linux.efi")).stdout);
    expect((await measure("0")).predictions).not.toEqual((await measure("1")).predictions);
    expect((await run("measure", "--profile", "2", "linux.efi")).stderr).toContain("UKI_SIGN_SECTION_MISSING");
  });

  test("signs the policies of all profiles", async () => {
    const flags = ["--pcr-key", "pcr.key", "--pcr-bank", "sha256", "--pcr-phases", "enter-initrd"];
    const { folder, run, result } = await profiles(...flags);
    expect(result.exitCode).toBe(0);
    const image = readFileSync(join(folder, "linux.efi"));
    const sections = decodePe(image).sections.filter(({ name }) => name === ".pcrsig");
    expect(sections.map((section) => parsePcrSignatures(readPeSection(image, section)).length)).toEqual([1, 1]);
    const { stdout } = await run("inspect", "linux.efi");
    expect(stdout).toMatch(/\n\.pcrsig of profile 0\n {2}sha256 {2}PCR 11 {2}by key [0-9a-f]{16}… {2}enter-initrd\n/);
    expect(stdout).toMatch(/\n\.pcrsig of profile 1\n {2}sha256 {2}PCR 11 {2}by key [0-9a-f]{16}… {2}enter-initrd\n/);
    expect((await run("inspect", "linux.efi", "--json")).stdout).toContain("pkfp");
  });

  test.each([
    [
      "for another image",
      '{"sha256":[{"pcrs":[11,12],"pkfp":"PKFP","pol":"POL","sig":""}]}',
      /PCR 11, 12 .* 1 policy for other values\n/,
    ],
    ["that nobody can read", '{"sha256":"none"}', /\n\.pcrsig\n {2}not readable: expected PCR signatures by bank/],
  ])("takes PCR signatures %s, and inspect says so", async (_what, text, shown) => {
    const pcrsig = text.replace(/PKFP|POL/g, "ab".repeat(32));
    const { run } = cliWorkspace({ ...FILES, pcrsig });
    expect((await run(...BUILD, "--pcrsig", "pcrsig")).exitCode).toBe(0);
    expect((await run("inspect", "linux.efi")).stdout).toMatch(shown);
  });

  test("takes both passphrases of a hierarchy from one reading", async () => {
    const { folder, run } = cliWorkspace({ ...FILES, pass: "hare\n" });
    expect((await run("keys", "generate", "keys", "--passphrase-file", "pass")).exitCode).toBe(0);
    const { exitCode, stderr } = await run(...BUILD, "--keys", "keys", "--sign-policies", "--passphrase-file", "pass");
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(inspectUki(readFileSync(join(folder, "linux.efi"))).signatures).toBe(1);
  });

  test("compiles descriptions of machines, and firmware for them", async () => {
    const { folder, run } = cliWorkspace(FILES);
    mkdirSync(join(folder, "machines/more"), { recursive: true });
    const board = { type: "uefi-fw", name: "Board", fwid: "board", hwids: [CHID] };
    writeFileSync(join(folder, "machines/more/board.json"), JSON.stringify(board));
    writeFileSync(join(folder, "machines/README"), "no description");
    const flags = ["--dtbauto", "tree", "--hwids", "laptop.json", "--hwids", "machines", "--efifw", "board=tree"];
    expect((await run(...BUILD, ...flags)).stderr).toBe("");
    const image = readFileSync(join(folder, "linux.efi"));
    const content = (name: string) => {
      const section = decodePe(image).sections.find((candidate) => candidate.name === name);
      return section ? readPeSection(image, section) : new Uint8Array();
    };
    expect(decodeHardwareIds(content(".hwids")).map(({ name }) => name)).toEqual(["Laptop", "Board"]);
    // Magic, sizes of header, identifier and firmware; then both.
    expect(Buffer.from(content(".efifw")).toString("hex")).toMatch(
      /^addeedfe100000000600000014000000626f61726400(01){20}$/,
    );
  });

  test.each<[string, string[], number, RegExp]>([
    ["an addon with os-release", ["--os-release", "ID=x", "--cmdline", "x"], 2, /expected --linux with --os-release/],
    ["a profile with device trees", ["--profile", "ID=x", "--dtbauto", "tree"], 2, /expected --linux with --dtbauto/],
    [
      "an addon with policies",
      ["--pcr-key", "pcr.key", "--cmdline", "x"],
      2,
      /expected --linux to sign policies about/,
    ],
    ["an addon of nothing", [], 1, /UKI_SIGN_BAD_OPTIONS/],
    ["firmware without name", ["--efifw", "tree"], 2, /expected --efifw ID=FILE/],
    [
      "a description that is none",
      ["--hwids", "laptop.json", "--hwids", "tree"],
      1,
      /tree: expected.*UKI_SIGN_HWIDS_INVALID/,
    ],
    ["banks without key", ["--pcr-bank", "sha256"], 2, /expected --sign-policies or --pcr-key/],
    ["a bank that policies have not", ["--pcr-key", "pcr.key", "--pcr-bank", "sha1"], 2, /for policies, got sha1/],
    ["policies of no hierarchy", ["--sign-policies"], 2, /expected --keys with --sign-policies/],
  ])("refuses %s", async (_name, argv, code, message) => {
    const { run } = cliWorkspace(FILES);
    const { exitCode, stderr } = await run("build", "--stub", "addon", ...argv, "-o", "out.efi");
    expect([exitCode, stderr]).toEqual([code, expect.stringMatching(message)]);
  });

  test("takes signatures that are made, or makes them, not both", async () => {
    const { run } = cliWorkspace(FILES);
    const { exitCode, stderr } = await run(...BUILD, "--pcr-key", "pcr.key", "--pcrsig", "tree");
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("either --pcrsig or policies to sign")]);
  });
});
