import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { startGuest } from "../src/index.ts";
import { busyboxInitrd, debianKernel, missingRust, noise, sha256, testQemus, titled } from "./support.ts";

const kernelPath = debianKernel() ?? "";
const missing = missingRust() || (kernelPath === "" ? "no kernel in the tree of oracles" : "");
const directory = mkdtempSync(join(tmpdir(), "vmm-native-devices-"));
afterAll(() => rmSync(directory, { recursive: true }));

const DRIVERS = ["drivers/block/virtio_blk", "drivers/char/hw_random/virtio-rng"];
const MIB = 1 << 20;
/** How long a guest may take: minutes on a machine that has much else to do. */
const WAIT = { timeoutMs: 900_000 };

/** Linux calls it a bug when it has not run for a while, which on a machine that has much else to do is none of its own. */
const COMMAND_LINE = "console=ttyS0 quiet nowatchdog";

/** What Linux finds on the bus: slot, class, identity, driver. */
const BUS = [
  "0000:00:00.0 0x060000 0x1b36:0x0008 -",
  "0000:00:01.0 0x078000 0x1af4:0x1043 virtio-pci",
  "0000:00:02.0 0x100000 0x1af4:0x1044 virtio-pci",
  "0000:00:03.0 0x018000 0x1af4:0x1042 virtio-pci",
  "0000:00:04.0 0x018000 0x1af4:0x1042 virtio-pci",
];

/** Says what is on the bus, and goes through every device; it is told on the virtio console to switch itself off. */
const SCRIPT = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for driver in /drivers/*.ko; do insmod $driver; done
echo $(nproc) processors
for device in /sys/bus/pci/devices/*; do
  driver=-
  [ -e $device/driver ] && driver=$(basename $(readlink $device/driver))
  echo "pci $(basename $device) $(cat $device/class) $(cat $device/vendor):$(cat $device/device) $driver"
done
echo sizes $(cat /sys/block/vda/size /sys/block/vdb/size) $(cat /sys/block/vda/ro /sys/block/vdb/ro)
echo serial $(cat /sys/block/vda/serial)
echo first $(dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | sha256sum)
echo second $(sha256sum < /dev/vdb)
dd if=/dev/vda of=/dev/vdb bs=64k count=16 seek=16 conv=fsync 2>/dev/null
echo written $(sha256sum < /dev/vdb)
dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null || echo vda is read-only
echo rng $(cat /sys/class/misc/hw_random/rng_current) $(dd if=/dev/hwrng bs=64 count=4 2>/dev/null | sha256sum)
echo interrupts $(grep -c -E "MSI.*virtio" /proc/interrupts) $(grep -c -E "IO-APIC.*virtio" /proc/interrupts)
read line < /dev/hvc0
echo "hvc0 read: $line" > /dev/hvc0
echo done
poweroff -f
`;

async function runLinux(cpus: number, parameters: string, options: Parameters<typeof startGuest>[1] = {}) {
  const first = noise(4 * MIB, 1);
  const second = noise(3 * MIB, 2);
  const paths = ["first", "second"].map((name) => join(directory, `${name}-${cpus}`));
  const [firstPath = "", secondPath = ""] = paths;
  writeFileSync(firstPath, first);
  writeFileSync(secondPath, second);
  const initrdPath = join(directory, "initrd");
  writeFileSync(initrdPath, busyboxInitrd(SCRIPT, DRIVERS));
  const commandLine = `${COMMAND_LINE} ${parameters}`;
  const disks = [
    { path: firstPath, access: "read-only", serial: "first-disk" } as const,
    { path: secondPath, access: "writable" } as const,
  ];
  await using guest = await startGuest({ kernelPath, initrdPath, commandLine, cpus, disks }, { ...WAIT, ...options });
  await guest.console.waitFor(/interrupts \d+ \d+/, WAIT);
  await guest.virtioConsole.sendLine("typed");
  await guest.virtioConsole.waitFor("hvc0 read: typed", WAIT);
  const { reason } = await guest.waitForStop(WAIT);
  const text = guest.console.text;
  const said = (word: string): string => new RegExp(`^${word} (.*)$`, "m").exec(text)?.[1]?.trim() ?? "nothing";
  const expected = Uint8Array.from(second);
  expected.set(first.subarray(0, MIB), MIB);
  expect(reason, text).toBe("power-off");
  expect(text).toContain(`${cpus} processors`);
  expect([...text.matchAll(/^pci (.*)$/gm)].map(([, line]) => line?.trim())).toEqual(BUS);
  expect(said("sizes")).toBe("8192 6144 1 0");
  expect(said("serial")).toBe("first-disk");
  expect(said("first")).toBe(`${sha256(first)} -`);
  expect(said("second")).toBe(`${sha256(second)} -`);
  expect(said("written")).toBe(`${sha256(expected)} -`);
  expect(text).toContain("vda is read-only");
  expect(said("rng")).toMatch(/^virtio_rng\.0 [0-9a-f]{64} -$/);
  expect(text).not.toMatch(/BUG|WARNING|Firmware Bug|I\/O error/);
  // What the guest was told to be written is in the file.
  expect(sha256(readFileSync(secondPath))).toBe(sha256(expected));
  return { interrupts: said("interrupts") };
}

describe.skipIf(missing !== "")(titled("Linux with virtio devices", missing), { timeout: WAIT.timeoutMs }, () => {
  test("finds, reads and writes them on four processors", async () => {
    const { interrupts } = await runLinux(4, "");
    expect(interrupts).toMatch(/^[1-9]\d* 0$/);
  });

  test("uses them with interrupt pins where it does without messages", async () => {
    const { interrupts } = await runLinux(1, "pci=nomsi");
    expect(interrupts).toMatch(/^0 [1-9]\d*$/);
  });

  test("begins again when it resets itself, with its disk as it has left it", async () => {
    const script = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /dev
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for driver in /drivers/*.ko; do insmod $driver; done
life=$(head -c 1 /dev/vda)
echo life $life of $(nproc) processors
echo $((life + 1)) | dd of=/dev/vda conv=fsync 2>/dev/null
[ $life = 2 ] && poweroff -f
reboot -f
`;
    const [initrdPath, path] = ["initrd-reset", "lives"].map((name) => join(directory, name)) as [string, string];
    writeFileSync(initrdPath, busyboxInitrd(script, DRIVERS));
    writeFileSync(path, "1".padEnd(512));
    const description = { kernelPath, initrdPath, commandLine: COMMAND_LINE, cpus: 2, disks: [{ path }] };
    await using guest = await startGuest({ ...description, onReset: "restart" }, WAIT);
    expect(await guest.waitForStop(WAIT)).toMatchObject({ reason: "power-off", resets: 1 });
    expect(guest.console.text.match(/^life .*\b/gm)).toEqual([1, 2].map((life) => `life ${life} of 2 processors`));
    expect(guest.console.text).not.toMatch(/BUG|WARNING|Firmware Bug|I\/O error/);
  });

  for (const qemu of testQemus().slice(1)) {
    test.skipIf(qemu.missing !== "")(`finds, reads and writes them in ${qemu.name}`, async () => {
      await runLinux(2, "", { qemu: await qemu.find() });
    });
  }
});
