import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { decodeEventLog, PCR_BANKS, replayEventLog, secureBootVariableGuid } from "../../src/index.ts";
import { agileLog, imageLoadData, sha1Log, variableData } from "../support/event-log.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { bytes, fill } from "../support/pe.ts";

const EVENTS = [
  { pcr: 0, type: 8, data: new Uint8Array(Buffer.from("1.0\0", "utf16le")) },
  { pcr: 7, type: 0x8000_0001, data: variableData("SecureBoot", secureBootVariableGuid("PK"), fill(1, 1)) },
  { pcr: 4, type: 0x8000_0007, data: bytes("Calling EFI Application from Boot Option") },
  ...Array.from({ length: 8 }, (_, pcr) => ({ pcr, type: 4, data: fill(4, 0) })),
  { pcr: 4, type: 0x8000_0003, data: imageLoadData("\\EFI\\BOOT\\BOOTX64.EFI"), measured: bytes("the image") },
  { pcr: 11, type: 13, data: new Uint8Array(Buffer.from(".linux\0", "utf16le")), measured: bytes(".linux\0") },
];

/** The registers that tpm2_eventlog computes, as `bank pcr value`. */
function theirRegisters(log: Uint8Array): string[] {
  const path = join(scratch(), "log");
  writeFileSync(path, log);
  const [, section = ""] = run("tpm2_eventlog", [path]).split(/^pcrs:\n/m);
  let bank = "";
  return section.split("\n").flatMap((line) => {
    bank = /^ {2}(\w+):$/.exec(line)?.[1] ?? bank;
    const [, pcr, value] = /^ {4}(\d+) *: 0x([0-9a-f]+)$/.exec(line) ?? [];
    return pcr === undefined ? [] : [`${bank} ${pcr} ${value}`];
  });
}

describeWith("tpm2_eventlog", ["tpm2_eventlog"], [], () => {
  test.each([
    ["of all banks", agileLog(EVENTS, PCR_BANKS)],
    ["of one bank", agileLog(EVENTS, ["sha384"])],
    ["of TPM 1.2", sha1Log(EVENTS)],
  ])("replays a log %s to the same values", (_name, log) => {
    const ours = replayEventLog(decodeEventLog(log)).map(
      ({ bank, pcr, value }) => `${bank} ${pcr} ${Buffer.from(value).toString("hex")}`,
    );
    expect(ours.length).toBeGreaterThan(8);
    expect(ours).toEqual(theirRegisters(log));
  });
});
