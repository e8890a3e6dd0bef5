import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  BOOT_PHASES,
  decodePe,
  findPeSection,
  inspectUki,
  measuredSections,
  predictPcr11Table,
  readPeSection,
} from "@leveret/uki-sign";
import { describe, expect, test } from "vitest";
import { buildSignedUki, kernelCommandLine } from "../../src/image/uki.ts";
import { scratch } from "../support/io.ts";
import { makeKeys } from "../support/keys.ts";
import { configOf, TINY, writeArtefacts } from "../support/system.ts";

const ROOT_HASH = "0123456789abcdef".repeat(4);

describe("kernelCommandLine", () => {
  test("pins /usr, asks for a signature, and ends with the description's own arguments", () => {
    const config = configOf({ ...TINY, kernel: { arguments: ["console=ttyS0", "quiet"] } });
    expect(kernelCommandLine(config, ROOT_HASH).split(" ")).toMatchSnapshot();
  });
});

describe("buildSignedUki", () => {
  test("replaces what the packages say of the system, and puts the signature behind the initrd", async () => {
    const artefacts = await writeArtefacts(await scratch());
    const { set } = await makeKeys("tiny");
    const { image, pcr11 } = await buildSignedUki({
      artefacts,
      config: configOf({ ...TINY, name: "Tiny" }),
      rootHash: ROOT_HASH,
      rootHashSignature: new TextEncoder().encode("the signature"),
      epochSeconds: 1_700_000_000,
      signer: set.signers.db,
      certificate: set.certificates.db,
    });
    const osRelease = inspectUki(image).sections.find(({ name }) => name === ".osrel")?.text;
    expect(osRelease).toBe('ID=debian\nPRETTY_NAME="Tiny 1.0"\nIMAGE_ID="tiny"\nIMAGE_VERSION="1.0"\n');
    const initrd = Buffer.from(readPeSection(image, findPeSection(decodePe(image), ".initrd")));
    const first = await readFile(join(artefacts.initrd, "initrd"));
    expect(initrd.subarray(0, first.length)).toEqual(first);
    expect(initrd.indexOf("070701")).toBe(Math.ceil(first.length / 4) * 4);
    expect(initrd.includes("the signature")).toBe(true);
    const predicted = predictPcr11Table({ sections: measuredSections(image), phases: BOOT_PHASES, banks: ["sha256"] });
    expect(Object.entries(pcr11)).toEqual(
      predicted.map(({ phasePath, value }) => [phasePath, Buffer.from(value).toString("hex")]),
    );
  });
});
