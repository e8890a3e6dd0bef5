import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  buildUki,
  encodeGuid,
  encodeSignatureDatabase,
  enrollVariableStore,
  measuredSections,
  secureBootVariableGuid,
  signPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { cliWorkspace } from "../support/cli.ts";
import { agileLog, imageLoadData, type TestEvent, variableData } from "../support/event-log.ts";
import { testSigner } from "../support/keys.ts";
import { bytes, fill, testKernel, testPe, testStub } from "../support/pe.ts";
import { emptyStore } from "../support/variable-store.ts";

const SECURE_BOOT = variableData("SecureBoot", secureBootVariableGuid("PK"), fill(1, 1));
const FILES = {
  log: agileLog([
    { pcr: 7, type: 0x8000_0001, data: SECURE_BOOT },
    { pcr: 4, type: 4, data: fill(4, 0), measured: bytes("else") },
    { pcr: 4, type: 0x8000_0003, data: imageLoadData("\\EFI\\\u001b[31m.EFI"), measured: bytes("image") },
  ]),
};

describe("uki-sign eventlog", () => {
  test("shows events and registers", async () => {
    const { exitCode, stdout } = await cliWorkspace(FILES).run("eventlog", "log", "--bank", "sha256");
    expect(exitCode).toBe(0);
    expect(stdout).toBe(`crypto-agile log of 4 events, sha1, sha256

event  PCR  type                              what
0      0    EV_NO_ACTION                      37 bytes
1      7    EV_EFI_VARIABLE_DRIVER_CONFIG     SecureBoot, 1 bytes
2      4    EV_SEPARATOR                      separator (not what was measured)
3      4    EV_EFI_BOOT_SERVICES_APPLICATION  HD(1,GPT,11111111-2222-4333-8444-555555555555)/\\EFI\\\\u{1b}[31m.EFI

PCR  bank    value
4    sha256  810095ec1790eac9068f479c8ac1c9eb3d53ddf12880a3b22591a7a45cdc6d66
7    sha256  e58ada1ba75f2e4722b539824598ad5e10c55f2e4aeab2033f3b0a8ee3f3eca6
`);
  });

  test("is limited to the registers asked for, and prints one document", async () => {
    const { stdout } = await cliWorkspace(FILES).run("eventlog", "log", "--pcr", "7", "--json");
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ kind: "uki-eventlog", version: 1, format: "crypto-agile", startupLocality: 0 });
    expect(document.events).toMatchObject([
      { index: 1, pcr: 7, contentMeasured: true, content: { kind: "variable", name: "SecureBoot", data: "01" } },
    ]);
    expect(document.registers.map(({ pcr, bank }: { pcr: number; bank: string }) => [pcr, bank])).toEqual([
      [7, "sha1"],
      [7, "sha256"],
    ]);
  });

  test("fails for a log that ends early", async () => {
    const { run } = cliWorkspace({ log: FILES.log.slice(0, 100) });
    const { exitCode, stderr } = await run("eventlog", "log");
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("[UKI_SIGN_EVENT_LOG_INVALID]")]);
  });

  test("refuses a bank it does not know", async () => {
    expect((await cliWorkspace(FILES).run("eventlog", "log", "--bank", "md5")).exitCode).toBe(2);
  });
});

describe("uki-sign eventlog with what should boot", () => {
  const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
  const CALLING = bytes("Calling EFI Application from Boot Option");

  /** The files of a machine with one key, and the log that firmware would write when it boots them. */
  async function machine(change: (events: TestEvent[]) => TestEvent[] = (events) => events) {
    const certificate = await testCertificate("owner");
    const signing = { signer: testSigner("owner"), certificate };
    const unsigned = buildUki({ stub: testStub(), linux: testKernel(), cmdline: "quiet" });
    const uki = await signPe(unsigned, signing);
    const vars = enrollVariableStore(emptyStore({ sizeBytes: 0x20000, storeBytes: 0xdfb8 }), {
      pk: certificate,
      kek: [certificate],
      db: [certificate],
      owner: OWNER,
      timestamp: new Date("2026-01-01T00:00:00Z"),
    });
    const list = encodeSignatureDatabase([certificate], OWNER);
    const config = (name: string, value: Uint8Array): TestEvent => {
      const guid = secureBootVariableGuid(name) ?? secureBootVariableGuid("PK");
      return { pcr: 7, type: 0x8000_0001, data: variableData(name, guid, value) };
    };
    const entry = new Uint8Array(Buffer.concat([encodeGuid(OWNER), certificate.der]));
    const sections = measuredSections(uki).flatMap(({ name, data }): TestEvent[] => {
      const text = new Uint8Array(Buffer.from(`${name}\0`, "utf16le"));
      return [bytes(`${name}\0`), data].map((measured) => ({ pcr: 11, type: 13, data: text, measured }));
    });
    const events: TestEvent[] = [
      config("SecureBoot", fill(1, 1)),
      ...["PK", "KEK", "db"].map((name) => config(name, list)),
      config("dbx", fill(0, 0)),
      { pcr: 7, type: 4, data: fill(4, 0) },
      { pcr: 4, type: 0x8000_0007, data: CALLING },
      { pcr: 4, type: 4, data: fill(4, 0) },
      { pcr: 7, type: 0x8000_00e0, data: variableData("db", secureBootVariableGuid("db"), entry) },
      ...sections,
    ];
    return {
      ...cliWorkspace({ "linux.efi": uki, "vars.fd": vars, log: agileLog(change(events), ["sha256"]) }),
      events,
    };
  }

  const FLAGS = ["--program", "linux.efi", "--vars", "vars.fd", "--uki", "linux.efi"];

  test("explains all other registers by an earlier boot, and PCR 5 by the disk", async () => {
    const { run, folder, events } = await machine();
    const changed = events.map((event) =>
      event.pcr === 11 ? event : { ...event, pcr: event.pcr === 4 ? 1 : event.pcr },
    );
    writeFileSync(join(folder, "reference"), agileLog(changed, ["sha256"]));
    const { stdout } = await run("eventlog", "log", "--uki", "linux.efi", "--reference", "reference");
    expect(stdout.match(/^PCR .*/gm)).toEqual([
      "PCR 1 sha256: differs",
      "PCR 4 sha256: differs",
      "PCR 7 sha256: as predicted, 7 measurements",
      expect.stringMatching(/^PCR 11 sha256: as predicted/),
    ]);
    expect(stdout).toContain("missing    EV_EFI_ACTION  Calling EFI Application from Boot Option, as event");
    const one = await run("eventlog", "log", "--reference", "reference", "--pcr", "7", "--json");
    expect(JSON.parse(one.stdout).explanations).toMatchObject([{ pcr: 7, matches: true }]);

    const disk = new Uint8Array(34 * 512);
    disk.set(bytes("EFI PART"), 512);
    disk.set([2], 512 + 72);
    disk.set([128], 512 + 84);
    writeFileSync(join(folder, "disk.raw"), disk);
    const table = await run("eventlog", "log", "--disk", "disk.raw");
    expect(table.stdout).toMatch(/^PCR 5 sha256: differs\n.*missing {4}EV_EFI_GPT_EVENT +partition table of the disk/s);
    expect((await run("eventlog", "log", "--loader-conf", "log")).exitCode).toBe(2);
    expect((await run("eventlog", "log", "--disk", "log")).stderr).toContain("[UKI_SIGN_GPT_INVALID]");
  });

  test("says for each register whether it is as predicted, and which events are not", async () => {
    const { run } = await machine();
    const { exitCode, stdout } = await run("eventlog", "log", ...FLAGS);
    expect(exitCode).toBe(0);
    // The log lacks the program itself, whose digest a test without the code under test would have to compute.
    expect(stdout.replaceAll(/[0-9a-f]{64}/g, "…")).toBe(`PCR 4 sha256: differs
  predicted …
  measured  …
   missing    EV_EFI_BOOT_SERVICES_APPLICATION  linux.efi
PCR 7 sha256: as predicted, 7 measurements
PCR 11 sha256: as predicted, 8 measurements
`);
  });

  test("names what was measured in place of what was expected", async () => {
    const other = { pcr: 7, type: 0x8000_0001, data: variableData("db", secureBootVariableGuid("db"), fill(9, 9)) };
    const { run } = await machine((events) => events.map((event, index) => (index === 3 ? other : event)));
    const { stdout } = await run("eventlog", "log", ...FLAGS);
    expect(stdout).toMatch(
      / {3}changed {2}event 4 {2}EV_EFI_VARIABLE_DRIVER_CONFIG {2}db, 9 bytes; predicted: variable db, \d+ bytes\n/,
    );
  });

  test("puts the explanations into its document", async () => {
    const { run } = await machine();
    const { explanations } = JSON.parse((await run("eventlog", "log", ...FLAGS, "--json")).stdout);
    expect(explanations).toMatchObject([
      {
        pcr: 4,
        bank: "sha256",
        matches: false,
        measurements: [{ kind: "same" }, { kind: "same" }, { kind: "missing" }],
      },
      { pcr: 7, matches: true },
      { pcr: 11, matches: true },
    ]);
  });

  test("refuses variables without programs, and programs that the variables forbid", async () => {
    const { run } = await machine();
    expect((await run("eventlog", "log", "--vars", "vars.fd")).exitCode).toBe(2);
    const unsigned = cliWorkspace({
      log: FILES.log,
      x: testPe(),
      "vars.fd": emptyStore({ sizeBytes: 0x20000, storeBytes: 0xdfb8 }),
    });
    const refused = await unsigned.run("eventlog", "log", "--program", "x", "--vars", "vars.fd");
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining("[UKI_SIGN_UNSIGNED]")]);
  });
});
