import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  decodeCertificate,
  decodeEventLog,
  describeEvent,
  encodeSignatureDatabase,
  explainPcr,
  isContentMeasured,
  predictPcr4,
  predictPcr7,
  replayEventLog,
} from "../../src/index.ts";
import { torture } from "../support/errors.ts";

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
