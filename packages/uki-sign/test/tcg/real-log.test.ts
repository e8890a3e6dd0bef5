import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  decodeCertificate,
  decodeEventContent,
  decodeEventLog,
  describeEvent,
  encodeSignatureDatabase,
  explainPcr,
  isContentMeasured,
  predictPcr4,
  predictPcr5,
  predictPcr7,
  predictPcrFromLog,
  replayEventLog,
} from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";

interface Machine {
  readonly owner: string;
  readonly certificates: Readonly<Record<"PK" | "KEK" | "db" | "verity", string>>;
  readonly programs: readonly { readonly name: string; readonly sha256: string }[];
  readonly pcr11: string;
  readonly registers: Readonly<Record<string, string>>;
}

const fixture = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../fixtures/${name}`, import.meta.url)));
const machine: Machine = JSON.parse(Buffer.from(fixture("particle.json")).toString());
const bytesOfLog = fixture("particle.tcglog");
const log = decodeEventLog(bytesOfLog);
const hex = (value: Uint8Array) => Buffer.from(value).toString("hex");
const certificate = (name: keyof Machine["certificates"]) =>
  decodeCertificate(new Uint8Array(Buffer.from(machine.certificates[name], "base64")));

describe("the log of a real boot", () => {
  const replayed = replayEventLog(log).filter(({ bank }) => bank === "sha256");

  test.each([0, 1, 2, 3, 4, 5, 6, 7, 9])("leads to the value of PCR %i that the TPM had", (pcr) => {
    const register = replayed.find((candidate) => candidate.pcr === pcr);
    expect(register && hex(register.value)).toBe(machine.registers[pcr]);
  });

  test("leads to the predicted PCR 11 before systemd went on to measure phases", () => {
    const register = replayed.find(({ pcr }) => pcr === 11);
    expect(register && hex(register.value)).toBe(machine.pcr11);
  });

  test("measured in PCR 4 what was predicted from the programs", () => {
    const programs = machine.programs.map(({ name, sha256 }) => ({ name, digest: Buffer.from(sha256, "hex") }));
    const prediction = predictPcr4({ programs });
    expect(hex(prediction.value)).toBe(machine.registers["4"]);
    expect(explainPcr(log, prediction).matches).toBe(true);
  });

  test("measured in PCR 7 what was predicted from the keys", () => {
    const { owner } = machine;
    const prediction = predictPcr7({
      variables: {
        PK: encodeSignatureDatabase([certificate("PK")], owner),
        KEK: encodeSignatureDatabase([certificate("KEK")], owner),
        db: encodeSignatureDatabase([certificate("db"), certificate("verity")], owner),
      },
      authorities: [{ owner, data: certificate("db").der }],
    });
    expect(hex(prediction.value)).toBe(machine.registers["7"]);
    expect(explainPcr(log, prediction).matches).toBe(true);
  });

  /** A disk with the partition table that firmware measured, and unused entries among its own. */
  function diskOfLog(): Uint8Array {
    const data = log.events.find(({ typeName }) => typeName === "EV_EFI_GPT_EVENT")?.data ?? new Uint8Array();
    const disk = new Uint8Array(34 * 512);
    disk.set(data.subarray(0, 92), 512);
    for (let index = 0; 100 + index * 128 < data.length; index++) {
      disk.set(data.subarray(100 + index * 128, 228 + index * 128), 1024 + 2 * index * 128);
    }
    return disk;
  }

  test("measured in PCR 5 what is predicted from the disk and the loader's configuration", () => {
    const loaderConf = new TextEncoder().encode("timeout 0\neditor no\n");
    const prediction = predictPcr5({ disk: diskOfLog(), loaderConf });
    expect(hex(prediction.value)).toBe(machine.registers["5"]);
    expect(explainPcr(log, prediction).matches).toBe(true);
    const without = explainPcr(log, predictPcr5({ disk: diskOfLog() }));
    expect(without.measurements.filter(({ kind }) => kind !== "same")).toMatchObject([
      { kind: "unexpected", event: { typeName: "EV_EVENT_TAG" } },
    ]);
  });

  test("refuses disks without a partition table that can be measured", () => {
    expect(errorOf(() => predictPcr5({ disk: new Uint8Array(4096) })).code).toBe("UKI_SIGN_GPT_INVALID");
    const huge = diskOfLog();
    new DataView(huge.buffer).setUint32(512 + 80, 0xffff_ffff, true);
    expect(errorOf(() => predictPcr5({ disk: huge })).code).toBe("UKI_SIGN_GPT_INVALID");
    const beyond = diskOfLog();
    new DataView(beyond.buffer).setBigUint64(512 + 72, 1n << 62n, true);
    expect(errorOf(() => predictPcr5({ disk: beyond })).code).toBe("UKI_SIGN_GPT_INVALID");
    torture(diskOfLog().subarray(0, 1024 + 256), (disk) => predictPcr5({ disk }), 13);
  });

  test.each([0, 1, 2, 3, 4, 5, 6, 7, 9, 11])(
    "is what another boot of the same is expected to measure in PCR %i",
    (pcr) => {
      const { matches, predicted } = explainPcr(log, predictPcrFromLog(log, pcr, "sha256"));
      expect(matches).toBe(true);
      if (pcr !== 11) expect(hex(predicted)).toBe(machine.registers[pcr]);
    },
  );

  test("names the boot entry that another boot had", () => {
    const events = log.events.map((event) => {
      if (decodeEventContent(event).kind !== "variable" || describeEvent(event).startsWith("Boot0001") === false)
        return event;
      return { ...event, digests: { ...event.digests, sha256: new Uint8Array(32) } };
    });
    const { measurements } = explainPcr(log, predictPcrFromLog({ ...log, events }, 1, "sha256"));
    const [step] = measurements.filter(({ kind }) => kind !== "same");
    expect(step).toMatchObject({
      kind: "changed",
      measurement: { source: "Boot0001, 78 bytes, as event 11 of the reference" },
    });
  });

  test("names the program that another prediction did not expect", () => {
    const programs = machine.programs.map(({ name, sha256 }, index) => ({
      name,
      digest: index === 0 ? Buffer.from(sha256, "hex") : Buffer.alloc(32),
    }));
    const changed = explainPcr(log, predictPcr4({ programs })).measurements.filter(({ kind }) => kind !== "same");
    expect(changed).toMatchObject([{ kind: "changed", measurement: { source: "particle_0.1.0.efi" } }]);
    const [step] = changed;
    if (step?.kind !== "changed") throw new Error("expected a changed measurement");
    expect(describeEvent(step.event)).toMatch(/^HD\(1,GPT,[0-9a-f-]{36}\)\/\\EFI\\Linux\\particle_0\.1\.0\.efi$/);
  });

  test("says nothing but what was measured, where that can be told", () => {
    expect(log.events.filter((event) => isContentMeasured(event) === false)).toEqual([]);
  });

  test("lets only the package's error escape when damaged", () => {
    torture(bytesOfLog, (damaged) => replayEventLog(decodeEventLog(damaged)), 41);
  });
});
