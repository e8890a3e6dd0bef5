import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type MachineDescription, startMachine } from "../src/index.ts";
import { bootCd, bootSector } from "./boot-sector.ts";
import { debianKernel, missingKernel } from "./kernel.ts";
import { missingOracles, titled } from "./oracles.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-kinds-"));
afterAll(() => rmSync(directory, { recursive: true }));
const tcg = { accelerator: "tcg" } as const;

function file(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

const toy = file("toy", toyKernel());
const empty = file("empty", new Uint8Array(1024 * 1024));
const disk = file("disk", Buffer.concat([bootSector("disk"), new Uint8Array(1024 * 1024 - 512)]));
const cd = file("cd", bootCd("cd"));

describe.skipIf(missing !== "")(titled("a kind of PC", missing), () => {
  test.each(["q35", "pc", "microvm"] as const)("%s starts a kernel as it is", async (machine) => {
    const boot = { type: "kernel", kernelPath: toy, commandLine: "as it is" } as const;
    await using started = await startMachine({ machine, memoryMiB: 64, boot }, tcg);
    const { groups } = await started.serial.waitFor(/READY (.*)\n/);
    expect(groups).toEqual([`${toy} as it is`]);
  });

  test.each<[string, Omit<MachineDescription, "boot">, string]>([
    ["a disk", { disks: [{ path: disk }], cds: [{ path: cd }] }, "disk"],
    ["a CD behind an empty disk", { disks: [{ path: empty }], cds: [{ path: cd }] }, "cd"],
    ["the second CD", { cds: [{ path: empty }, { path: cd }] }, "cd"],
  ])("boots %s by its BIOS", async (_, media, from) => {
    for (const machine of ["q35", "pc"] as const) {
      await using started = await startMachine({ machine, memoryMiB: 64, boot: { type: "bios" }, ...media }, tcg);
      const { groups } = await started.serial.waitFor(/BOOT (\w+)\n/);
      expect(groups, machine).toEqual([from]);
    }
  });

  test("pc has UEFI firmware too", async () => {
    await using started = await startMachine({ machine: "pc", boot: { type: "uefi" } }, tcg);
    await started.serial.waitFor(/UEFI Interactive Shell/, { timeoutMs: 120_000 });
  });

  const lacking = missingKernel();
  test.skipIf(lacking !== "")(
    titled("microvm starts Linux, which finds its clock and its devices", lacking),
    async () => {
      const boot = { type: "linux", kernelPath: debianKernel() ?? "", commandLine: "console=ttyS0 panic=-1" } as const;
      const started = await startMachine({ machine: "microvm", memoryMiB: 192, boot }, tcg);
      await started.serial.waitFor(/tsc: Detected \d+\.\d+ MHz processor/);
      await started.serial.waitFor(/virtio-pci/);
      await started.serial.waitFor(/Unable to mount root fs/, { timeoutMs: 120_000 });
      expect(started.serial.text).not.toContain("unstable");
      expect(await started.waitForExit({ timeoutMs: 20_000 })).toMatchObject({ reason: expect.any(String) });
    },
  );
});
