import { existsSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type MachineDescription, startMachine } from "../src/index.ts";
import { type LeftoverWatch, watchLeftovers } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles();
/** Debian's store with a test key enrolled: it enforces, and the firmware's own shell is not signed. */
const ENFORCING = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
const PROMPT = /Shell> $/;

describe.skipIf(missing !== "")(titled("firmware", missing), () => {
  let watch: LeftoverWatch;
  beforeEach(() => {
    watch = watchLeftovers();
  });
  afterEach(async () => {
    const leftovers = await watch.leftovers();
    watch.close();
    expect(leftovers).toEqual([]);
  });

  test("boots to its shell, which sees the SMBIOS strings, the credentials and the TPM", async () => {
    const description: MachineDescription = {
      memoryMiB: 256,
      boot: { type: "uefi" },
      tpm: {},
      smbiosStrings: ["io.systemd.stub.kernel-cmdline-extra=one,two three"],
      credentials: { "test.word": "swordfish", "test.bytes": Uint8Array.of(0, 255) },
    };
    await using machine = await startMachine(description, { accelerator: "tcg" });
    await machine.serial.waitFor("any other key to continue");
    await machine.serial.write("\u001b");
    await machine.serial.waitFor(PROMPT);

    await machine.serial.sendLine("smbiosview -t 11");
    await machine.serial.waitFor("io.systemd.stub.kernel-cmdline-extra=one,two three");
    await machine.serial.waitFor(`io.systemd.credential.binary:test.word=${btoa("swordfish")}`);
    await machine.serial.waitFor("io.systemd.credential.binary:test.bytes=AP8=");
    await machine.serial.waitFor(PROMPT);

    // Interface identifier of a TPM's command response buffer; all ones where there is no TPM.
    await machine.serial.sendLine("mm FED40030 -w 4 -MMIO -n");
    const { groups } = await machine.serial.waitFor(/: 0x([0-9A-F]{8})\b/);
    expect(Number.parseInt(groups[0] ?? "", 16) & 0xf).toBe(1);

    await machine.serial.sendLine("reset -s");
    expect(await machine.waitForExit({ timeoutMs: 30_000 })).toEqual({ exitCode: 0, reason: "guest-shutdown" });
  });

  test.skipIf(!existsSync(ENFORCING))("refuses what the enrolled keys do not sign", async () => {
    await using machine = await startMachine(
      { memoryMiB: 256, boot: { type: "uefi", secureBoot: true, variables: { path: ENFORCING } } },
      { accelerator: "tcg" },
    );
    // Newer builds of the firmware have no shell to refuse any more.
    const refused = /Security Violation|No bootable option/;
    expect((await machine.serial.waitForAny({ refused, booted: PROMPT })).which).toBe("refused");
  });
});
