import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHypervisor, type Vm } from "../src/index.ts";
import { buildGuests, busyboxInitrd, debianKernel, missingRust, noise, sha256, testQemus, titled } from "./support.ts";

const missing = missingRust();
const kernelPath = debianKernel() ?? "";
const noLinux = missing || (kernelPath === "" ? "no kernel in the tree of oracles" : "");
const directory = mkdtempSync(join(tmpdir(), "vmm-native-fork-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** How long a guest may take: minutes on a machine that has much else to do. */
const WAIT = { timeoutMs: 900_000 };
/** Longest that the quickest of some forks may take, in `microseconds`: the machine has much else to do, and lets each wait. */
const MAX_FORK_US = 250_000;

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

const quickestOf = (forks: readonly Vm[]) => Math.min(...forks.map(({ forkedInUs = 0 }) => forkedInUs));

const refused = (message: string) =>
  expect.objectContaining({ code: "VMM_REFUSED", message: expect.stringMatching(message) });

for (const qemu of testQemus()) {
  const absent = missing || qemu.missing;
  describe.skipIf(absent !== "")(titled(`a fork in ${qemu.name}`, missing), () => {
    test("goes on where its parent is, with memory of its own", async () => {
      // There is no room for another guest like that, but for forks of it.
      await using hypervisor = await createHypervisor({ memoryMiB: 48 }, { qemu: await qemu.find() });
      const description = { kernelPath: guestFile("waits"), memoryMiB: 40 };
      const parent = await hypervisor.createVm(description);
      await parent.run();
      await parent.console.waitFor("waiting");
      await expect(hypervisor.createVm(description)).rejects.toEqual(refused("bytes of memory"));
      const first = await parent.fork();
      await first.run();
      const second = await first.fork();
      expect([parent.forkedInUs, first.description]).toEqual([undefined, parent.description]);
      const quickest = quickestOf([first, second]);
      expect(quickest).toBeGreaterThan(0);
      expect(quickest).toBeLessThan(MAX_FORK_US);
      const at = 0x123_4ffcn;
      const guests = [second, parent, first];
      for (const [index, vm] of guests.entries()) await vm.memory.write(at, new Uint8Array(8).fill(index + 1));
      for (const [index, vm] of guests.entries())
        expect(await vm.memory.read(at - 4n, 16)).toEqual(
          Uint8Array.from([...Array(4).fill(0), ...Array(8).fill(index + 1), ...Array(4).fill(0)]),
        );
      await second.run();
      for (const [index, vm] of guests.entries()) {
        await vm.inject(0, 0x41 + index);
        await vm.console.waitFor(`vector ${0x41 + index}\n`);
      }
      expect(second.console.text).toBe("vector 65\n");
      // Whoever is left has all of it.
      await parent.destroy();
      await first.destroy();
      await expect(hypervisor.createVm(description)).rejects.toEqual(refused("bytes of memory"));
      expect(await second.memory.read(at, 1)).toEqual(Uint8Array.of(1));
      await second.destroy();
      const again = await hypervisor.createVm(description);
      expect(await again.memory.read(at, 8)).toEqual(new Uint8Array(8));
    });

    test("stops when there is no memory left for what it writes, and its parent goes on", async () => {
      await using hypervisor = await createHypervisor({ memoryMiB: 48 }, { qemu: await qemu.find() });
      const parent = await hypervisor.createVm({ kernelPath: guestFile("waits"), memoryMiB: 40 });
      await parent.run();
      await parent.console.waitFor("waiting");
      const fork = await parent.fork();
      await fork.run();
      await expect(fork.memory.write(0x20_0000n, new Uint8Array(38 << 20))).rejects.toMatchObject({
        code: "VMM_REFUSED",
      });
      expect(await fork.waitForStop()).toMatchObject({ reason: "out-of-memory" });
      await expect(parent.fork()).rejects.toEqual(refused("expected 2097152 bytes of memory, got 0"));
      await expect(fork.fork()).rejects.toEqual(refused("got one that has stopped"));
      await parent.inject(0, 0x42);
      await parent.console.waitFor("vector 66\n");
    });

    test("is refused where it has not the devices of its parent", async () => {
      const disks = [64, 64, 65].map((sectors, index) => ({
        path: scratch(`disk${index}`, new Uint8Array(sectors * 512)),
      }));
      await using hypervisor = await createHypervisor({ memoryMiB: 48, disks }, { qemu: await qemu.find() });
      const parent = await hypervisor.createVm({ kernelPath: guestFile("waits"), memoryMiB: 16, disks: [0] });
      await expect(parent.fork()).rejects.toEqual(refused("a state that a device can be in"));
      await expect(parent.fork({ disks: [0] })).rejects.toEqual(refused("no other guest has"));
      await expect(parent.fork({ disks: [2] })).rejects.toEqual(refused("a state that a device can be in"));
      const fork = await parent.fork({ disks: [1] });
      await fork.run();
      await fork.console.waitFor("waiting");
    });
  });
}

test.skipIf(noLinux !== "")(
  titled("a Linux that has booted once goes on as several, each by itself", noLinux),
  { timeout: WAIT.timeoutMs },
  async () => {
    const script = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir /proc /dev /tmp
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
insmod /drivers/virtio_blk.ko
echo ready
while read name; do
  dd if=/dev/urandom of=/tmp/$name bs=64k count=64 2>/dev/null
  sum=$(sha256sum < /tmp/$name)
  sync; echo 3 > /proc/sys/vm/drop_caches
  [ "$(sha256sum < /tmp/$name)" = "$sum" ] && echo "$name has $(ls /tmp), $(nproc) processors, $(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | sha256sum)"
done
`;
    const content = noise(1 << 20, 5);
    const path = scratch("content", content);
    const initrdPath = scratch("initrd", busyboxInitrd(script, ["drivers/block/virtio_blk"]));
    const disks = [0, 1, 2, 3].map(() => ({ path, access: "read-only" as const }));
    await using hypervisor = await createHypervisor({ memoryMiB: 384, disks });
    const parent = await hypervisor.createVm({
      kernelPath,
      initrdPath,
      commandLine: "console=ttyS0 quiet nowatchdog",
      cpus: 2,
      disks: [0],
    });
    await parent.run();
    await parent.console.waitFor("ready", WAIT);
    const forks = [];
    for (const disk of [1, 2, 3]) forks.push(await parent.fork({ disks: [disk] }));
    const guests = [parent, ...forks];
    for (const vm of forks) await vm.run();
    await Promise.all(guests.map((vm, index) => vm.console.sendLine(`guest${index}`)));
    for (const [index, vm] of guests.entries())
      await vm.console.waitFor(`guest${index} has guest${index}, 2 processors, ${sha256(content)}`, WAIT);
    expect(quickestOf(forks)).toBeLessThan(MAX_FORK_US);
    for (const { console } of guests) expect(console.text).not.toMatch(/BUG|WARNING|rcu_/);
    await parent.destroy();
    await forks[0]?.console.sendLine("again");
    await forks[0]?.console.waitFor("again has again", WAIT);
  },
);
