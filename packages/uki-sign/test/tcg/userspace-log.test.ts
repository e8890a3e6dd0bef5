import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  decodeEventLog,
  decodeUserspaceLog,
  replayEventLog,
  replayUserspaceLog,
  UkiSignError,
} from "../../src/index.ts";
import { torture } from "../support/errors.ts";

const fixture = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../fixtures/${name}`, import.meta.url)));
const machine: { readonly registers: Readonly<Record<string, string>> } = JSON.parse(
  Buffer.from(fixture("particle.json")).toString(),
);
const PHASES = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
const BOOT = "0123456789abcdef0123456789abcdef";

/** A record as systemd 257 writes it. */
function record(pcr: unknown, text: string, change: Record<string, unknown> = {}): string {
  const digests = ["sha1", "sha256", "sha3-256"].map((hashAlg) => ({
    hashAlg,
    digest: createHash(hashAlg).update(text).digest("hex"),
  }));
  const content = { eventType: "phase", string: text, bootId: BOOT, timestamp: 12_345 };
  return `\u001e${JSON.stringify({ pcr, digests, content_type: "systemd", content, ...change })}\n`;
}

const LOG = Buffer.from(PHASES.map((phase) => record(11, phase)).join(""));

describe("the log of what systemd measured", () => {
  test("leads from the firmware's log to the register that a TPM had", () => {
    const before = replayEventLog(decodeEventLog(fixture("particle.tcglog")));
    const after = replayUserspaceLog(decodeUserspaceLog(LOG), before);
    const value = (bank: string, pcr: number): string => {
      const found = after.find((register) => register.bank === bank && register.pcr === pcr);
      return Buffer.from(found?.value ?? []).toString("hex");
    };
    expect(value("sha256", 11)).toBe(machine.registers["11"]);
    // What was not measured into, or not in this bank, is as it was.
    expect(value("sha256", 4)).toBe(machine.registers["4"]);
    expect(after.map(({ bank, pcr }) => `${bank} ${pcr}`)).toEqual(before.map(({ bank, pcr }) => `${bank} ${pcr}`));
  });

  test("says what was measured and when", () => {
    expect(decodeUserspaceLog(LOG)[1]).toMatchObject({
      index: 1,
      pcr: 11,
      eventType: "phase",
      text: "leave-initrd",
      bootId: BOOT,
      timestampUs: 12_345,
      digests: { sha1: expect.any(Uint8Array), sha256: expect.any(Uint8Array) },
    });
  });

  test("starts registers that the firmware left alone with zeros", () => {
    const [register] = replayUserspaceLog(decodeUserspaceLog(Buffer.from(record(15, "x"))), []).filter(
      ({ bank }) => bank === "sha256",
    );
    const digest = createHash("sha256").update("x").digest();
    const expected = createHash("sha256").update(new Uint8Array(32)).update(digest).digest("hex");
    expect(register).toMatchObject({ pcr: 15, events: 1 });
    expect(Buffer.from(register?.value ?? []).toString("hex")).toBe(expected);
  });

  test("may be empty, and may say less", () => {
    expect(decodeUserspaceLog(new Uint8Array(0))).toEqual([]);
    const [event] = decodeUserspaceLog(Buffer.from('\u001e{"pcr":12,"digests":[]}'));
    expect(event).toMatchObject({ pcr: 12, digests: {}, eventType: undefined, text: undefined });
  });

  test.each([
    ["no separator", '{"pcr":1}'],
    ["no JSON", "\u001enonsense\n"],
    ["an array", "\u001e[]\n"],
    ["an empty record", "\u001e\u001e"],
    ["register 24", record(24, "x")],
    ["a register that is no number", record("11", "x")],
    ["no digests", record(11, "x", { digests: undefined })],
    ["a digest of the wrong length", record(11, "x", { digests: [{ hashAlg: "sha256", digest: "00" }] })],
    ["a digest that is none", record(11, "x", { digests: [{ hashAlg: "sha256", digest: "z".repeat(64) }] })],
    ["a digest without algorithm", record(11, "x", { digests: [{ digest: "00" }] })],
    ["text that is no UTF-8", "\u001e\u00ff"],
  ])("with %s is a typed error with its place", (_, text) => {
    const bytes = Buffer.concat([LOG, Buffer.from(text, "latin1")]);
    const decode = (): unknown => decodeUserspaceLog(bytes);
    expect(decode).toThrow(UkiSignError);
    expect(decode).toThrow(expect.objectContaining({ code: "UKI_SIGN_EVENT_LOG_INVALID", offset: expect.any(Number) }));
  });

  test("throws only UkiSignError on cut or damaged input", () => torture(LOG, decodeUserspaceLog));
});
