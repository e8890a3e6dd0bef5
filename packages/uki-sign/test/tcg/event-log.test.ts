import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  decodeEventContent,
  decodeEventLog,
  describeEvent,
  isContentMeasured,
  PCR_BANKS,
  replayEventLog,
  secureBootVariableGuid,
  type TcgEvent,
} from "../../src/index.ts";
import { errorOf, torture } from "../support/errors.ts";
import { agileLog, imageLoadData, sha1Log, type TestEvent, variableData } from "../support/event-log.ts";
import { bytes, fill, withU16, withU32 } from "../support/pe.ts";

const GLOBAL = secureBootVariableGuid("PK");
const SECURE_BOOT = variableData("SecureBoot", GLOBAL, fill(1, 1));
const EVENTS: readonly TestEvent[] = [
  { pcr: 0, type: 8, data: new Uint8Array(Buffer.from("1.0\0", "utf16le")) },
  { pcr: 7, type: 0x8000_0001, data: SECURE_BOOT },
  { pcr: 4, type: 0x8000_0007, data: bytes("Calling EFI Application from Boot Option") },
  { pcr: 4, type: 4, data: fill(4, 0) },
  { pcr: 4, type: 0x8000_0003, data: imageLoadData("\\EFI\\BOOT\\BOOTX64.EFI"), measured: bytes("the image") },
  {
    pcr: 9,
    type: 6,
    data: new Uint8Array(Buffer.from("ec223b8f0d0000004c696e757820696e69747264 00".replace(" ", ""), "hex")),
    measured: bytes("the initrd"),
  },
];
const hex = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString("hex");

function decode(events: readonly TestEvent[]): readonly TcgEvent[] {
  return decodeEventLog(agileLog(events)).events.slice(1);
}

/** The only event of a log. */
function single(event: TestEvent): TcgEvent {
  const [decoded] = decode([event]);
  if (decoded === undefined) throw new Error("expected an event");
  return decoded;
}

describe("decodeEventLog", () => {
  test("reads every event of a crypto-agile log in every bank", () => {
    const log = decodeEventLog(agileLog(EVENTS, PCR_BANKS));
    expect(log).toMatchObject({ format: "crypto-agile", startupLocality: 0 });
    expect(log.algorithms.map(({ name, sizeBytes }) => `${name} ${sizeBytes}`)).toEqual([
      "sha1 20",
      "sha256 32",
      "sha384 48",
      "sha512 64",
    ]);
    expect(log.events.slice(1).map(({ pcr, type, data }) => ({ pcr, type, data }))).toEqual(
      EVENTS.map(({ pcr, type, data }) => ({ pcr, type, data })),
    );
    const [, , variable] = log.events;
    expect(variable).toMatchObject({ index: 2, typeName: "EV_EFI_VARIABLE_DRIVER_CONFIG" });
    for (const bank of PCR_BANKS) {
      expect(hex(variable?.digests[bank])).toBe(createHash(bank).update(SECURE_BOOT).digest("hex"));
    }
  });

  test("reads a log of TPM 1.2", () => {
    const { format, algorithms, events } = decodeEventLog(sha1Log(EVENTS));
    expect([format, algorithms.length, events.length]).toEqual(["sha1", 1, EVENTS.length]);
    expect(events[3]).toMatchObject({ index: 3, pcr: 4, typeName: "EV_SEPARATOR", data: fill(4, 0) });
  });

  test("says at which byte of the log an event starts", () => {
    const log = agileLog(EVENTS);
    const { events } = decodeEventLog(log);
    for (const { offset, pcr } of events) expect(log[offset]).toBe(pcr);
  });

  test("keeps algorithms and types it does not know", () => {
    // SHA-384 becomes an algorithm nobody has heard of, in the header and in the events alike.
    const log = agileLog([{ pcr: 1, type: 0x8000_0055, data: fill(3, 1) }], ["sha384"]);
    const strange = withU16(withU16(log, 60, 0x00fe), log.length - 3 - 4 - 48 - 2, 0x00fe);
    const { algorithms, events } = decodeEventLog(strange);
    expect(algorithms).toEqual([{ name: "0x00fe", id: 0xfe, sizeBytes: 48 }]);
    expect([events[1]?.typeName, events[1]?.digests["0x00fe"]?.length]).toEqual(["0x80000055", 48]);
    expect(replayEventLog(decodeEventLog(strange))).toEqual([]);
  });

  const log = agileLog(EVENTS);
  const firstEvent = 32 + 16 + 12 + 8 + 1;
  test.each<[string, Uint8Array, number]>([
    ["an empty log", new Uint8Array(), 0],
    ["a log cut in an event header", log.slice(0, firstEvent + 5), firstEvent],
    ["a log cut in an event's data", log.slice(0, -1), log.length - 21],
    ["a register that no TPM has", withU32(log, firstEvent, 24), firstEvent],
    ["no digests", withU32(log, firstEvent + 8, 0), firstEvent + 8],
    ["more digests than algorithms", withU32(log, firstEvent + 8, 3), firstEvent + 8],
    ["four billion digests", withU32(log, firstEvent + 8, 0xffff_ffff), firstEvent + 8],
    ["a digest of an unannounced algorithm", withU16(log, firstEvent + 12, 13), firstEvent + 12],
    ["the same algorithm twice in an event", withU16(log, firstEvent + 34, 4), firstEvent + 34],
    ["the same algorithm twice in the header", withU32(log, 64, 4 + (20 << 16)), 60],
    ["an algorithm with digests of another size", withU16(log, 62, 21), 62],
    ["a header without algorithms", withU32(log, 56, 0), 56],
  ])("refuses %s", (_name, bytesOfLog, offset) => {
    const error = errorOf(() => decodeEventLog(bytesOfLog));
    expect([error.code, error.offset]).toEqual(["UKI_SIGN_EVENT_LOG_INVALID", offset]);
  });

  test("refuses what is beyond its limits before it makes room for it", () => {
    const tooLong = new Uint8Array(16 * 1024 * 1024 + 1);
    expect(errorOf(() => decodeEventLog(tooLong)).code).toBe("UKI_SIGN_TOO_LARGE");
    expect(errorOf(() => decodeEventLog(withU32(log, 56, 17))).code).toBe("UKI_SIGN_TOO_LARGE");
    expect(errorOf(() => decodeEventLog(new Uint8Array(32 * 16385))).code).toBe("UKI_SIGN_TOO_LARGE");
  });

  test.each([
    ["crypto-agile", log],
    ["SHA-1", sha1Log(EVENTS)],
  ])("lets only the package's error escape from a damaged %s log", (_name, valid) => {
    torture(valid, (damaged) => {
      const decoded = decodeEventLog(damaged);
      replayEventLog(decoded);
      for (const event of decoded.events) {
        describeEvent(event);
        isContentMeasured(event);
      }
    });
  });
});

describe("decodeEventContent", () => {
  test("reads variables, images, separators, tags and text", () => {
    const contents = decode(EVENTS).map(decodeEventContent);
    expect(contents).toEqual([
      { kind: "text", text: "1.0" },
      { kind: "variable", name: "SecureBoot", guid: GLOBAL, data: fill(1, 1) },
      { kind: "text", text: "Calling EFI Application from Boot Option" },
      { kind: "separator", value: 0 },
      {
        kind: "image",
        path: "HD(1,GPT,11111111-2222-4333-8444-555555555555)/\\EFI\\BOOT\\BOOTX64.EFI",
        sizeBytes: 4096n,
      },
      { kind: "tagged", tag: 0x8f3b22ec, data: bytes("Linux initrd\0") },
    ]);
  });

  test.each<[string, TestEvent, string]>([
    ["a variable", { pcr: 7, type: 0x8000_0001, data: SECURE_BOOT }, "SecureBoot, 1 bytes"],
    ["a tagged event", EVENTS[5] as TestEvent, "tag 0x8f3b22ec: Linux initrd"],
    [
      "a part of the firmware",
      { pcr: 0, type: 0x8000_0008, data: withU32(withU32(fill(16, 0), 1, 0x82), 8, 7) },
      "firmware, 7 bytes at 0x8200",
    ],
    [
      "a part with a name",
      { pcr: 0, type: 0x8000_000a, data: new Uint8Array([2, 0x46, 0x56, ...fill(16, 0)]) },
      "FV, 0 bytes at 0x0",
    ],
    ["an error in place of a separator", { pcr: 4, type: 4, data: fill(4, 1) }, "separator after an error"],
    [
      "a disk",
      { pcr: 5, type: 0x8000_0006, data: fill(100, 0) },
      "disk 00000000-0000-0000-0000-000000000000, 0 partitions",
    ],
    ["what is no text", { pcr: 8, type: 13, data: new Uint8Array([1, 2, 3]) }, "3 bytes"],
    ["an image without a path", { pcr: 4, type: 0x8000_0003, data: fill(32, 0) }, "image of 0 bytes"],
  ])("describes %s", (_name, event, description) => {
    expect(describeEvent(single(event))).toBe(description);
  });

  test.each([0x8000_0001, 0x8000_0003, 0x8000_0006, 0x8000_0008, 0x8000_000a, 4, 6])(
    "takes the data of an event of type %i for bytes when it has another form",
    (type) => expect(decodeEventContent(single({ pcr: 1, type, data: fill(3, 255) }))).toEqual({ kind: "bytes" }),
  );
});

describe("isContentMeasured", () => {
  test("tells events whose data was measured from those that only say something", () => {
    expect(decode(EVENTS).map(isContentMeasured)).toEqual([true, true, true, true, undefined, undefined]);
  });

  test("finds data that was put in place of what was measured", () => {
    const forged = single({ pcr: 7, type: 0x8000_0001, data: SECURE_BOOT, measured: bytes("SecureBoot off") });
    expect(isContentMeasured(forged)).toBe(false);
  });

  test("accepts boot variables measured by value alone", () => {
    const data = variableData("BootOrder", GLOBAL, fill(2, 0));
    expect(isContentMeasured(single({ pcr: 1, type: 0x8000_0002, data, measured: fill(2, 0) }))).toBe(true);
    expect(isContentMeasured(single({ pcr: 1, type: 0x8000_0002, data, measured: fill(3, 0) }))).toBe(false);
  });
});

describe("replayEventLog", () => {
  const extend = (value: Uint8Array, data: Uint8Array) =>
    createHash("sha256").update(value).update(createHash("sha256").update(data).digest()).digest();

  test("extends each register with its events in order", () => {
    const registers = replayEventLog(decodeEventLog(agileLog(EVENTS)));
    expect(registers.map(({ pcr, bank, events }) => `${bank} ${pcr} ${events}`)).toEqual(
      ["sha1", "sha256"].flatMap((bank) => [`${bank} 0 1`, `${bank} 4 3`, `${bank} 7 1`, `${bank} 9 1`]),
    );
    const expected = [EVENTS[2], EVENTS[3], EVENTS[4]].reduce(
      (value, event) => extend(value, event?.measured ?? event?.data ?? fill(0, 0)),
      Buffer.alloc(32) as Uint8Array,
    );
    expect(hex(registers.find(({ pcr, bank }) => pcr === 4 && bank === "sha256")?.value)).toBe(hex(expected));
  });

  test("starts PCR 0 with the locality of the TPM's start-up", () => {
    const locality = { pcr: 0, type: 3, data: new Uint8Array([...bytes("StartupLocality\0"), 3]) };
    const version = EVENTS[0] as TestEvent;
    const log = decodeEventLog(agileLog([locality, version], ["sha256"]));
    const start = new Uint8Array(32);
    start[31] = 3;
    expect(log.startupLocality).toBe(3);
    expect(replayEventLog(log)[0]?.value).toEqual(new Uint8Array(extend(start, version.data)));
  });

  test("starts PCR 0 with 4 when a core root of trust measured before the start-up", () => {
    const early = { pcr: 0, type: 0x8000_0010, data: bytes("HCRTM") };
    const start = new Uint8Array(32);
    start[31] = 4;
    const [register] = replayEventLog(decodeEventLog(agileLog([early], ["sha256"])));
    expect(register?.value).toEqual(new Uint8Array(extend(start, early.data)));
  });

  test("starts registers of a dynamic root of trust with ones", () => {
    const event = { pcr: 17, type: 13, data: bytes("launch") };
    const [register] = replayEventLog(decodeEventLog(agileLog([event], ["sha256"])));
    expect(register?.value).toEqual(new Uint8Array(extend(fill(32, 255), event.data)));
  });
});
