import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { encodeCpio, type Machine, type MachineDescription, startMachine } from "../src/index.ts";
import { missingAgent } from "./agent-built.ts";
import { busybox, debianKernel, kernelModules, missingKernel } from "./kernel.ts";
import { missingOracles, titled } from "./oracles.ts";
import { testQemus } from "./qemus.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles() || missingAgent() || missingKernel();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-faults-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** A machine with three processors, a balloon, and busybox beside the agent. */
function description(): MachineDescription {
  const initrdPath = join(directory, "initrd");
  const driver = kernelModules(["drivers/virtio/virtio_balloon"]);
  writeFileSync(initrdPath, encodeCpio([busybox(), ...driver], 0));
  return {
    memoryMiB: 256,
    cpus: 3,
    balloon: true,
    boot: { type: "linux", kernelPath: debianKernel() ?? "", initrdPath, commandLine: "console=ttyS0", fast: true },
    agent: true,
    forkable: true,
  };
}

describe.skipIf(missing !== "").each(testQemus())(titled("a fault of a machine in $name", missing), (qemu) => {
  let machine: Machine;
  const run = async (script: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await machine.agent.exec(["busybox", "sh", "-ec", script]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    return stdout.trim();
  };
  const cat = (path: string): Promise<string> => run(`busybox cat ${path}`);

  test.skipIf(qemu.missing !== "")("is seen from inside: interrupts, memory, processors and the clock", async () => {
    machine = await startMachine(description(), {
      accelerator: "tcg",
      env: { ...process.env, LEVERET_QEMU: qemu.path },
    });
    await using _machine = machine;
    await machine.agent.ready();
    await run("busybox insmod /drivers/0.ko");

    const interrupts = async (): Promise<number> =>
      Number(/NMI: +(\d+)/.exec(await cat("/proc/interrupts"))?.[1] ?? Number.NaN);
    const before = await interrupts();
    await machine.nmi();
    await expect.poll(interrupts).toBeGreaterThan(before);

    const free = async (): Promise<number> =>
      Number(/MemFree: +(\d+)/.exec(await cat("/proc/meminfo"))?.[1] ?? Number.NaN);
    const plenty = await free();
    await machine.setMemory(176);
    const little = await free();
    expect(plenty - little).toBeGreaterThan(70 * 1024);
    await machine.setMemory(256);
    expect(await free()).toBeGreaterThan(little + 70 * 1024);

    const online = (): Promise<string> => cat("/sys/devices/system/cpu/online");
    expect(await online()).toBe("0-2");
    await using checkpoint = await machine.checkpoint();
    await machine.unplugCpu();
    expect(await online()).toBe("0-1");
    await machine.unplugCpu();
    expect(await online()).toBe("0");
    await expect(machine.unplugCpu()).rejects.toMatchObject({ code: "QEMU_UNSUPPORTED" });
    await expect(machine.checkpoint()).rejects.toMatchObject({ code: "QEMU_TEMPLATE_FAILED" });

    const clock = async (): Promise<number> => Number(await run("busybox date +%s"));
    const uptime = async (): Promise<number> => Number((await cat("/proc/uptime")).split(" ")[0]);
    const [up, now] = [await uptime(), Date.now() / 1000];
    for (const jump of [86_400, -86_400]) {
      await machine.agent.setClock(new Date((now + jump) * 1000));
      expect(Math.abs((await clock()) - now - jump)).toBeLessThan(600);
    }
    expect((await uptime()) - up).toBeLessThan(600);

    await using fork = await checkpoint.fork();
    const again = await fork.agent.exec(["busybox", "cat", "/sys/devices/system/cpu/online"]);
    expect(again.stdout).toBe("0-2\n");
  });
});

describe.skipIf(missing !== "")(titled("a fault that a machine cannot have", missing), () => {
  const kernelPath = join(directory, "toy");
  writeFileSync(kernelPath, toyKernel());
  const start = (fields: Partial<MachineDescription>): Promise<Machine> =>
    startMachine({ memoryMiB: 32, boot: { type: "kernel", kernelPath }, ...fields }, { accelerator: "tcg" });

  test("is refused", async () => {
    await using machine = await start({ cpus: 2, balloon: true });
    await machine.serial.waitFor("READY");
    await expect(machine.setMemory(33)).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
    // A guest without an operating system gives up nothing.
    const limit = { timeoutMs: 200 };
    // QEMU itself may refuse that, depending on what firmware has made of ACPI.
    await expect(machine.unplugCpu(limit)).rejects.toMatchObject({
      code: expect.stringMatching(/^QEMU_(UNPLUG_REFUSED|QMP_TIMEOUT)$/),
    });
    await expect(machine.setMemory(16, limit)).rejects.toMatchObject({
      code: "QEMU_QMP_TIMEOUT",
      message: expect.stringContaining("expected the guest to have 16 MiB, got 32 MiB"),
    });
    const signal = AbortSignal.abort();
    await expect(machine.setMemory(16, { signal })).rejects.toMatchObject({ code: "QEMU_ABORTED" });
  });

  test("is refused in a microvm, but for an interrupt", async () => {
    await using machine = await start({ machine: "microvm" });
    await expect(machine.unplugCpu()).rejects.toMatchObject({ code: "QEMU_UNSUPPORTED" });
    await expect(machine.setMemory(16)).rejects.toBeInstanceOf(TypeError);
    await machine.nmi();
  });
});
