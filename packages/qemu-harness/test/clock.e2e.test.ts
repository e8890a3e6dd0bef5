import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  encodeCpio,
  fuzzSeeds,
  type Machine,
  type MachineDescription,
  type SeedScenario,
  startMachine,
} from "../src/index.ts";
import { failure } from "./failure.ts";
import { busybox, debianKernel, missingKernel } from "./kernel.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles() || missingKernel();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-clock-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** An initrd in which one program waits for a timer and another one works: who is first depends on the processor. */
function writeRace(): string {
  const init = `#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /dev; busybox mount -t proc none /proc; busybox mount -t devtmpfs none /dev
(busybox sleep 0.1; echo waited) &
(i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; echo worked) &
wait
busybox cat /proc/sys/kernel/random/boot_id
echo over
busybox sleep 1000000
`;
  const path = join(directory, "race");
  writeFileSync(path, encodeCpio([busybox(), { path: "init", data: Buffer.from(init), executable: true }], 0));
  return path;
}

/** An initrd that says what is random, and what the time is, first and then every ten minutes. */
function writeInitrd(): string {
  const init = `#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /dev; busybox mount -t proc none /proc; busybox mount -t devtmpfs none /dev
busybox cat /proc/sys/kernel/random/boot_id /proc/interrupts
busybox head -c 32 /dev/urandom | busybox sha256sum
busybox date "+started %F %T"
while busybox sleep 600; do busybox date "+it is %F %T"; done
`;
  const path = join(directory, "initrd");
  writeFileSync(path, encodeCpio([busybox(), { path: "init", data: Buffer.from(init), executable: true }], 0));
  return path;
}

describe.skipIf(missing !== "")(titled("a virtual clock", missing), () => {
  const start = (clock: MachineDescription["clock"]): Promise<Machine> => {
    const boot = {
      type: "linux",
      kernelPath: debianKernel() ?? "",
      initrdPath: writeInitrd(),
      commandLine: "console=ttyS0",
    } as const;
    return startMachine({ machine: "microvm", memoryMiB: 128, boot, clock });
  };

  test("has the same machine say the same, to the last microsecond and random bit, and lets minutes pass in seconds", async () => {
    const said = async (machine: Machine): Promise<string> => {
      await machine.serial.waitFor(/^started .*\n/);
      const { text } = machine.serial;
      return text.slice(0, text.indexOf("started"));
    };
    const runs: string[] = [];
    for (const _ of [1, 2]) {
      await using machine = await start({ type: "virtual", seed: 7 });
      runs.push(await said(machine));
    }
    const [one = "", again] = runs;
    expect(one).toMatch(/^\[ +\d+\.\d{6}\] Run \/init as init process$/m);
    expect(again).toBe(one);

    await using other = await start({ type: "virtual", seed: 8, base: "2038-01-19T03:00:00Z" });
    const random = /^[0-9a-f]{8}-.*$|^[0-9a-f]{64}/gm;
    const words: readonly string[] = (await said(other)).match(random) ?? [];
    expect(words).toHaveLength(2);
    expect(one.match(random)?.filter((word) => words.includes(word))).toEqual([]);
    expect(other.serial.text).toMatch(/^started 2038-01-19 03:0\d:\d\d$/m);
    await other.advance("20m");
    const times = [...other.serial.text.matchAll(/^it is 2038-01-19 (\d\d):(\d\d)/gm)].slice(0, 2);
    const [first, second] = times.map(([, hour, minute]) => Number(hour) * 60 + Number(minute));
    expect(Number(second) - Number(first)).toBe(10);

    await expect(other.advance("1d", { timeoutMs: 1 })).rejects.toMatchObject({ code: "QEMU_QMP_TIMEOUT" });
    await other.serial.waitFor("it is", { from: "now" });
  });
  test("of another seed lets what happens happen in another order, which the same seed repeats", async () => {
    const boot = {
      type: "linux",
      kernelPath: debianKernel() ?? "",
      initrdPath: writeRace(),
      commandLine: "console=ttyS0",
      fast: true,
    } as const;
    const runs: { seed: number; said: string }[] = [];
    const scenario = async ({ seed, start }: SeedScenario): Promise<void> => {
      const machine = await start({ machine: "microvm", memoryMiB: 128, boot });
      await machine.serial.waitFor(/^over\n/);
      const said = machine.serial.text.slice(0, machine.serial.text.indexOf("over"));
      runs.push({ seed, said });
      expect(said).toMatch(/^waited\n[\s\S]*^worked\n|^worked\n[\s\S]*^waited\n/m);
      if (said.indexOf("waited") < said.indexOf("worked")) throw new Error("waited before it had worked");
    };
    const saveTo = join(directory, "failed");
    const error = await failure(fuzzSeeds(20, scenario, { firstSeed: 2, saveTo }));
    expect(error).toMatchObject({ code: "QEMU_SEED_FAILED", cause: { message: "waited before it had worked" } });
    const found = runs.at(-1);
    expect(error.seed).toBe(found?.seed);
    expect(runs.length).toBeGreaterThan(1);
    expect(error.message).toContain(`fuzzSeeds(1, scenario, { firstSeed: ${error.seed} })`);

    await failure(fuzzSeeds(1, scenario, { firstSeed: error.seed ?? 0 }));
    expect(runs.at(-1)).toEqual(found);
    const path = join(saveTo, `seed-${error.seed}.json`);
    expect(error.message).toContain(`qemu-harness run ${path}`);
    await using again = await startMachine(JSON.parse(readFileSync(path, "utf8")));
    await again.serial.waitFor(/^over\n/);
    expect(again.serial.text.slice(0, found?.said.length)).toBe(found?.said);
  });
});
