import { describe, expect, test } from "vitest";
import { secureBootVariableGuid } from "../../src/index.ts";
import { cliWorkspace } from "../support/cli.ts";
import { agileLog, imageLoadData, variableData } from "../support/event-log.ts";
import { bytes, fill } from "../support/pe.ts";

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
