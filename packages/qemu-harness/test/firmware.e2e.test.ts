import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type MachineDescription, startMachine } from "../src/index.ts";
import { ask, PROMPT, reachShell } from "./firmware-shell.ts";
import { leaveNothing } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles();
/** Debian's store with a test key enrolled: it enforces, and the firmware's own shell is not signed. */
const ENFORCING = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";

describe.skipIf(missing !== "")(titled("firmware", missing), () => {
  leaveNothing();

  test("boots to its shell, which sees the SMBIOS strings, the credentials and the TPM", async () => {
    const description: MachineDescription = {
      memoryMiB: 256,
      boot: { type: "uefi" },
      tpm: {},
      smbiosStrings: ["io.systemd.stub.kernel-cmdline-extra=one,two three"],
      credentials: { "test.word": "swordfish", "test.bytes": Uint8Array.of(0, 255) },
    };
    await using machine = await startMachine(description, { accelerator: "tcg" });
    await reachShell(machine);

    const strings = await ask(machine, "smbiosview -t 11", [
      /io\.systemd\.stub\.kernel-cmdline-extra=one,two three/,
      new RegExp(`io\\.systemd\\.credential\\.binary:test\\.word=${btoa("swordfish")}`),
      /io\.systemd\.credential\.binary:test\.bytes=AP8=/,
    ]);
    expect(strings).toHaveLength(3);

    // Interface identifier of a TPM's command response buffer; all ones where there is no TPM.
    const [identifier] = await ask(machine, "mm FED40030 -w 4 -MMIO -n", [/: 0x([0-9A-F]{8})\b/]);
    expect(Number.parseInt(identifier?.[1] ?? "", 16) & 0xf).toBe(1);

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
