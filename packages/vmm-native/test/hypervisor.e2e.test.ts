import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHypervisor, MAX_VMS, type Vm } from "../src/index.ts";
import { buildGuests, busyboxInitrd, debianKernel, missingRust, testQemus, titled } from "./support.ts";

const missing = missingRust();
const kernelPath = debianKernel() ?? "";
const noLinux = missing || (kernelPath === "" ? "no kernel in the tree of oracles" : "");
const directory = mkdtempSync(join(tmpdir(), "vmm-native-hypervisor-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Where flat binaries are, and where the hostile one looks for its seed. */
const FLAT_START = 0x10_0000n;
const SEED_ADDRESS = 0x3_1000n;
const SEED = BigInt(process.env.LEVERET_SEED ?? "1");
/** How long a guest may take: minutes on a machine that has much else to do. */
const WAIT = { timeoutMs: 900_000 };

/** Writes a file that is gone when the tests are over. */
function scratch(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

let guestFile: (name: string) => string;
beforeAll(() => {
  if (missing === "") guestFile = buildGuests();
});

/** Sets a seed and lets the guest begin. */
async function begin(vm: Vm): Promise<void> {
  await vm.memory.write(SEED_ADDRESS, new Uint8Array(BigUint64Array.of(SEED).buffer));
  await vm.run();
  await vm.console.waitFor(`hostile from seed ${SEED}`);
}

/** How many operations a hostile guest has done when it says so next. */
async function beat(vm: Vm): Promise<number> {
  const waits = new AbortController();
  const stopped = vm.waitForStop({ ...WAIT, signal: waits.signal }).then(({ message }) => {
    throw new Error(`expected a guest that goes on, got: ${message}`);
  });
  const said = vm.console.waitFor(/^(\d+) operations, \d+ exceptions$/, { ...WAIT, from: "now" });
  try {
    const { groups } = await Promise.race([said, stopped]);
    return Number(groups[0]);
  } finally {
    stopped.catch(() => {});
    waits.abort();
  }
}

const hostile = () => ({ kernelPath: guestFile("hostile"), memoryMiB: 16 });

for (const qemu of testQemus()) {
  const absent = missing || qemu.missing;
  describe.skipIf(absent !== "")(titled(`a hypervisor in ${qemu.name}`, missing), () => {
    test("says what a guest's processors and memory hold, and stops and goes on with it", async () => {
      await using hypervisor = await createHypervisor({ memoryMiB: 64 }, { qemu: await qemu.find() });
      const vm = await hypervisor.createVm(hostile());
      const program = readFileSync(guestFile("hostile"));
      expect(Buffer.from(await vm.memory.read(FLAT_START, program.length)).equals(program)).toBe(true);
      expect(await vm.registers()).toMatchObject({ rip: FLAT_START, cr0: 0x8000_0033n });
      expect(await vm.exits()).toEqual({});
      await begin(vm);
      await beat(vm);
      await vm.pause();
      const [exits, registers] = [await vm.exits(), await vm.registers()];
      expect(exits).toMatchObject({ CPUID: expect.any(Number), MSR: expect.any(Number), NPF: expect.any(Number) });
      expect(registers.rip).toBeGreaterThanOrEqual(FLAT_START);
      expect(registers.rip).toBeLessThan(FLAT_START + BigInt(program.length));
      expect([await vm.exits(), await vm.registers()]).toEqual([exits, registers]);
      await vm.run();
      expect(await beat(vm)).toBeGreaterThan(0);
      await vm.pause();
      await vm.restart();
      await vm.console.waitFor("hostile from seed");
    });

    test("interrupts guests from outside, and is typed to no faster than they read", async () => {
      await using hypervisor = await createHypervisor({ memoryMiB: 64 }, { qemu: await qemu.find() });
      const vm = await hypervisor.createVm({ kernelPath: guestFile("waits"), memoryMiB: 16 });
      await vm.run();
      await vm.console.waitFor("waiting");
      for (const vector of [0x41, 2, 0xf0]) {
        await vm.inject(0, vector);
        await vm.console.waitFor(`vector ${vector}\n`);
      }
      await expect(vm.inject(0, 15)).rejects.toMatchObject({ code: "VMM_REFUSED" });
      await expect(vm.inject(1, 0x41)).rejects.toMatchObject({ code: "VMM_REFUSED" });
      // It never reads, so what is too much waits here.
      const typed = vm.console.write("x".repeat(10_000), { timeoutMs: 500 });
      await expect(typed).rejects.toMatchObject({ code: "QEMU_CONSOLE_TIMEOUT" });
      await vm.inject(0, 0x42);
      await vm.console.waitFor("vector 66\n");
    });

    test("refuses what it has not got, and what a guest cannot do now", async () => {
      const path = scratch("disk", new Uint8Array(512));
      await using hypervisor = await createHypervisor(
        { memoryMiB: 200, disks: [{ path }] },
        { qemu: await qemu.find() },
      );
      const refused = (message: string | RegExp) =>
        expect.objectContaining({ code: "VMM_REFUSED", message: expect.stringMatching(message) });
      const hello = { kernelPath: guestFile("hello"), memoryMiB: 16 };
      const vm = await hypervisor.createVm({ ...hello, disks: [0] });
      const noDevices =
        "expected disks and network cards that the machine has, with virtio 1.0, and that no other guest has";
      await expect(hypervisor.createVm({ ...hello, disks: [0] })).rejects.toEqual(refused(noDevices));
      await expect(hypervisor.createVm({ ...hello, networks: [0] })).rejects.toEqual(refused(noDevices));
      await expect(hypervisor.createVm({ ...hello, memoryMiB: 256 })).rejects.toEqual(refused(/^expected \d+ bytes/));
      await using other = await hypervisor.createVm({ ...hello, cpus: 8 });
      await expect(hypervisor.createVm({ ...hello, cpus: 8 })).rejects.toEqual(refused(/^expected 8 address spaces/));
      await expect(vm.memory.read(0xff_ffffn, 2)).rejects.toEqual(refused("^2 bytes at 0xffffff are not in"));
      await expect(vm.registers(1)).rejects.toEqual(refused("expected the number of a processor, got 1"));
      await vm.run();
      expect(await vm.waitForStop()).toMatchObject({ reason: "halted" });
      await expect(vm.run()).rejects.toEqual(refused("got one that has stopped"));
      await vm.destroy();
      await expect(vm.run()).rejects.toEqual(refused("got one that has been destroyed"));
      // Its disk and its place are free again.
      await hypervisor.createVm({ ...hello, disks: [0] });
      for (let count = 2; count < MAX_VMS; count++) await hypervisor.createVm(hello);
      await expect(hypervisor.createVm(hello)).rejects.toEqual(refused(`expected at most ${MAX_VMS} guests`));
      expect((await other.registers()).rip).toBe(FLAT_START);
    });

    test("gives nobody the memory of another guest as that has left it", async () => {
      await using hypervisor = await createHypervisor({ memoryMiB: 20 }, { qemu: await qemu.find() });
      const description = { kernelPath: guestFile("hello"), memoryMiB: 16 };
      const secret = Buffer.from("a secret");
      const [low, high] = [0x80_0000n, 0xff_fff0n];
      const first = await hypervisor.createVm(description);
      for (const address of [low, high]) await first.memory.write(address, secret);
      await first.destroy();
      const second = await hypervisor.createVm(description);
      for (const address of [low, high])
        expect(await second.memory.read(address, secret.length)).toEqual(new Uint8Array(secret.length));
      await second.run();
      await second.console.waitFor("hello from a guest");
    });
  });
}

test.skipIf(noLinux !== "")(
  titled("a guest goes on while others do what no guest should", noLinux),
  { timeout: WAIT.timeoutMs },
  async () => {
    const script = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir /proc && mount -t proc proc /proc
for beat in 1 2 3 4 5; do echo beat $beat; sleep 0.2; done
echo $(nproc) processors are alive
poweroff -f
`;
    const initrdPath = scratch("initrd", busyboxInitrd(script));
    await using hypervisor = await createHypervisor({ memoryMiB: 320 });
    const linux = await hypervisor.createVm({
      kernelPath,
      initrdPath,
      commandLine: "console=ttyS0 quiet nowatchdog",
      cpus: 2,
    });
    const offender = await hypervisor.createVm(hostile());
    const garbage = await hypervisor.createVm({
      kernelPath: scratch("garbage", Buffer.alloc(4096, 0xff)),
      memoryMiB: 16,
    });
    await linux.run();
    await begin(offender);
    await garbage.run();
    expect(await garbage.waitForStop(WAIT)).toMatchObject({ reason: "triple-fault" });
    const before = await beat(offender);
    await linux.console.waitFor("2 processors are alive", WAIT);
    expect(await linux.waitForStop(WAIT)).toMatchObject({ reason: "power-off" });
    expect(linux.console.text).not.toMatch(/BUG|WARNING|Firmware Bug|rcu_/);
    expect(await beat(offender)).toBeGreaterThan(before);
    expect(await offender.exits()).not.toHaveProperty("INVALID");
  },
);
