import { describe, expect, test } from "vitest";
import {
  decodeEventLog,
  type EventLog,
  explainPcr,
  type PcrExplanation,
  predictPcr4,
  predictPcr7,
  secureBootVariableGuid,
} from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";
import { agileLog, imageLoadData, type TestEvent, variableData } from "../support/event-log.ts";
import { bytes, fill, testPe } from "../support/pe.ts";

const PROGRAM = 0x8000_0003;
const CALL: TestEvent = { pcr: 4, type: 0x8000_0007, data: bytes("Calling EFI Application from Boot Option") };
const SEPARATOR: TestEvent = { pcr: 4, type: 4, data: fill(4, 0) };
const load = (file: string, measured: string): TestEvent => ({
  pcr: 4,
  type: PROGRAM,
  data: imageLoadData(file),
  measured: bytes(measured),
});
const log = (...events: readonly TestEvent[]): EventLog => decodeEventLog(agileLog(events, ["sha256"]));
/** A program whose Authenticode digest is the hash of `text`, as `load` logs it. */
const program = (name: string, text: string) => {
  const [, event] = log(load(name, text)).events;
  return { name, digest: event?.digests.sha256 ?? fill(32, 0) };
};
const kinds = ({ measurements }: PcrExplanation) => measurements.map(({ kind }) => kind);

describe("explainPcr", () => {
  const prediction = predictPcr4({ programs: [program("loader", "loader"), program("linux.efi", "linux 1")] });

  test("finds that a boot went as predicted", () => {
    const explanation = explainPcr(log(CALL, SEPARATOR, load("\\a", "loader"), load("\\b", "linux 1")), prediction);
    expect(explanation).toMatchObject({ pcr: 4, bank: "sha256", matches: true });
    expect(kinds(explanation)).toEqual(["same", "same", "same", "same"]);
    expect(explanation.value).toEqual(explanation.predicted);
  });

  test("names the event that measured something else, and what was expected in its place", () => {
    const explanation = explainPcr(log(CALL, SEPARATOR, load("\\a", "loader"), load("\\b", "linux 2")), prediction);
    expect(explanation.matches).toBe(false);
    expect(explanation.measurements.at(-1)).toMatchObject({
      kind: "changed",
      event: { index: 4 },
      measurement: { source: "linux.efi" },
    });
  });

  test("finds a program in between that nobody expected", () => {
    const events = [CALL, SEPARATOR, load("\\a", "loader"), load("\\memtest", "memtest"), load("\\b", "linux 1")];
    expect(kinds(explainPcr(log(...events), prediction))).toEqual(["same", "same", "same", "unexpected", "same"]);
  });

  test("finds programs that were left out, and a boot that ended early", () => {
    expect(kinds(explainPcr(log(CALL, SEPARATOR, load("\\b", "linux 1")), prediction))).toEqual([
      "same",
      "same",
      "missing",
      "same",
    ]);
    expect(kinds(explainPcr(log(), prediction))).toEqual(["missing", "missing", "missing", "missing"]);
  });

  test("finds programs in another order", () => {
    const explanation = explainPcr(log(CALL, SEPARATOR, load("\\b", "linux 1"), load("\\a", "loader")), prediction);
    expect(explanation.matches).toBe(false);
    expect(kinds(explanation).filter((kind) => kind === "same")).toHaveLength(3);
  });

  test("pairs what changed by its type, in a register of many types", () => {
    const config = (name: "PK" | "db", data: Uint8Array): TestEvent => ({
      pcr: 7,
      type: 0x8000_0001,
      data: variableData(name, secureBootVariableGuid(name), data),
    });
    const explanation = explainPcr(
      log({ ...SEPARATOR, pcr: 7 }, config("db", fill(9, 9)), { pcr: 7, type: 13, data: bytes("later") }),
      predictPcr7({ variables: {} }),
    );
    expect(kinds(explanation)).toEqual([...Array(5).fill("missing"), "same", "unexpected", "unexpected"]);
  });

  test("refuses a bank that the log does not have, and predictions without end", () => {
    const image = testPe();
    const sha1 = predictPcr4({ programs: [{ name: "x", image }], bank: "sha1" });
    expect(errorOf(() => explainPcr(log(CALL), sha1)).code).toBe("UKI_SIGN_EVENT_LOG_INVALID");
    const digest = fill(32, 1);
    const endless = predictPcr4({ programs: Array.from({ length: 600 }, () => ({ name: "x", digest })) });
    expect(errorOf(() => explainPcr(log(CALL), endless)).code).toBe("UKI_SIGN_TOO_LARGE");
  });

  test("compares the longest log with a long prediction", () => {
    const events = Array.from({ length: 16_383 }, (_, index) => load("\\x", `${index % 7}`));
    const longLog = log(...events);
    const programs = Array.from({ length: 500 }, (_, index) => program("x", `${index % 5}`));
    const startedAt = performance.now();
    explainPcr(longLog, predictPcr4({ programs }));
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });
});
