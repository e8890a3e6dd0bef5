import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type BuildUkiAddonOptions, buildUkiAddon } from "../../src/index.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { fill, SBAT } from "../support/pe.ts";
import { systemdAddonStub, TREE_FILES, ukify } from "../support/systemd-tools.ts";

type Parts = Omit<BuildUkiAddonOptions, "stub">;

const CASES: [string, Parts, string[]][] = [
  ["a command line", { cmdline: "console=ttyS0 debug" }, ["--cmdline=console=ttyS0 debug"]],
  [
    "every part",
    {
      cmdline: "debug",
      dtb: fill(600, 1),
      uname: "6.12.41",
      initrd: [fill(5, 2), fill(3, 3)],
      ucode: fill(700, 4),
      sbat: [`${SBAT}leveret,1,Leveret,leveret,1,https://example.org/\n`],
    },
    [
      ...["--cmdline=debug", "--devicetree=dtb", "--uname=6.12.41", "--initrd=initrd0", "--initrd=initrd1"],
      ...["--microcode=ucode", "--sbat=@sbat"],
    ],
  ],
];

describeWith("ukify 257 on addons", [], TREE_FILES, () => {
  test.each(CASES)("builds the same addon with %s, byte for byte", (_name, parts, argv) => {
    const folder = scratch();
    const [first, second] = [parts.initrd ?? []].flat();
    const files = { stub: systemdAddonStub(), dtb: parts.dtb, ucode: parts.ucode, initrd0: first, initrd1: second };
    for (const [name, data] of Object.entries(files))
      writeFileSync(join(folder, name), (data ?? "") as string | Uint8Array);
    writeFileSync(join(folder, "sbat"), parts.sbat?.[0] ?? "");
    const output = join(folder, "theirs.addon.efi");
    const inFolder = argv.map((flag) =>
      flag.replace(/=(@?)(dtb|ucode|initrd\d|sbat)$/, (_all, at, name) => `=${at}${join(folder, name)}`),
    );
    ukify(["build", "--stub", join(folder, "stub"), ...inFolder, "--output", output]);
    const ours = buildUkiAddon({ stub: systemdAddonStub(), ...parts });
    expect(Buffer.compare(ours, readFileSync(output))).toBe(0);
  });
});
