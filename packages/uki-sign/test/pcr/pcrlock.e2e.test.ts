import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  buildUki,
  measuredSections,
  PCR_BANKS,
  type PcrPrediction,
  predictPcr4,
  predictPcr11Measurements,
} from "../../src/index.ts";
import { describeWith, scratch } from "../support/oracles.ts";
import { fill, testKernel } from "../support/pe.ts";
import { PCRLOCK, type PcrlockRecord, systemdPcrlock, systemdStub, TREE_FILES } from "../support/systemd-tools.ts";

/** A unified kernel image, in a file too. */
function testImage(): { image: Uint8Array; path: string } {
  const parts = { linux: testKernel(), initrd: fill(70_001, 5), cmdline: "quiet", osRelease: "ID=leveret\n" };
  const image = buildUki({ stub: systemdStub(), ...parts });
  const path = join(scratch(), "linux.efi");
  writeFileSync(path, image);
  return { image, path };
}

/** The records of a register, and our measurements, in the same form: `bank digest` in order. */
function theirs(records: readonly PcrlockRecord[], pcr: number): string[] {
  return PCR_BANKS.flatMap((bank) =>
    records
      .filter((record) => record.pcr === pcr)
      .map(({ digests }) => `${bank} ${digests.find(({ hashAlg }) => hashAlg === bank)?.digest}`),
  );
}

function ours(predictions: readonly PcrPrediction[], typeName: string): string[] {
  return predictions.flatMap(({ bank, measurements }) =>
    measurements
      .filter((measurement) => measurement.typeName === typeName)
      .map(({ digest }) => `${bank} ${Buffer.from(digest).toString("hex")}`),
  );
}

describeWith("systemd-pcrlock 257", [], [...TREE_FILES, PCRLOCK], () => {
  test("predicts the same for a program in PCR 4, in every bank", () => {
    const { image, path } = testImage();
    const predictions = PCR_BANKS.map((bank) => predictPcr4({ programs: [{ name: "linux.efi", image }], bank }));
    expect(ours(predictions, "EV_EFI_BOOT_SERVICES_APPLICATION")).toEqual(theirs(systemdPcrlock(["lock-pe", path]), 4));
  });

  test("predicts the same for a unified kernel image in PCR 11, in every bank", () => {
    const { image, path } = testImage();
    const sections = measuredSections(image);
    const predictions = PCR_BANKS.map((bank) => predictPcr11Measurements({ sections, phases: [], bank }));
    expect(ours(predictions, "EV_IPL")).toEqual(theirs(systemdPcrlock(["lock-uki", path]), 11));
  });
});
