// Debian's kernels to userspace, and what they exit for until then. VMM_NATIVE_FULL_MATRIX=1 boots all of them, on every
// number of processors; LEVERET_LEDGER=1 writes down what they exit for, which is compared from then on.
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { startGuest } from "../src/index.ts";
import { makeDebianRoot } from "./debian-root.ts";
import { busyboxInitrd, debianKernel, debianKernels, missingRust, titled } from "./support.ts";

const LEDGER_FILE = fileURLToPath(new URL("exit-ledger.json", import.meta.url));
/** Most exits from entry to userspace on one processor; KVM needs about 45,000. */
const MAX_EXITS = 15_000;
/** How much more than was written down may be, as a factor: kernels are updated. */
const TOLERANCE = 1.25;
/** Reasons that depend on the kernel alone, and not on how long it takes. */
const STEADY = ["CPUID", "IOIO", "NPF"] as const;

/** How long a guest may take: minutes on a machine that has much else to do. */
const WAIT = { timeoutMs: 900_000 };

const all = process.env.VMM_NATIVE_FULL_MATRIX === "1";
const directory = mkdtempSync(join(tmpdir(), "vmm-native-boot-"));
afterAll(() => rmSync(directory, { recursive: true }));

type Ledger = Record<string, Record<string, number>>;
const ledger: Ledger = JSON.parse(readFileSync(LEDGER_FILE, "utf8"));

/** Says how it finds its machine, and is then told to switch itself off. */
const SCRIPT = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir /proc /sys
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "userspace on $(nproc) processors, $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
read line
poweroff -f
`;

for (const { name, path: kernelPath, missing: absent } of debianKernels(all)) {
  const missing = missingRust() || absent;
  describe.skipIf(missing !== "")(titled(`Linux ${name}`, missing), () => {
    const initrdPath = join(directory, "initrd");
    test.each(all ? [1, 2, 4] : [1])(
      "boots to userspace on %i processors",
      { timeout: WAIT.timeoutMs },
      async (cpus) => {
        writeFileSync(initrdPath, busyboxInitrd(SCRIPT));
        const commandLine = "console=ttyS0 quiet nowatchdog";
        await using guest = await startGuest({ kernelPath, initrdPath, commandLine, cpus });
        await guest.console.waitFor(new RegExp(`userspace on ${cpus} processors, (?:tsc|kvm-clock)\n`), WAIT);
        await guest.pause();
        const exits = await guest.exits();
        const key = `${name}, ${cpus}`;
        if (process.env.LEVERET_LEDGER === "1") {
          ledger[key] = Object.fromEntries(Object.entries(exits).sort());
          writeFileSync(LEDGER_FILE, `${JSON.stringify(ledger, null, 2)}\n`);
        }
        for (const reason of STEADY)
          expect(exits[reason], reason).toBeLessThanOrEqual((ledger[key]?.[reason] ?? 0) * TOLERANCE);
        if (cpus === 1) expect(Object.values(exits).reduce((sum, count) => sum + count)).toBeLessThan(MAX_EXITS);
        await guest.run();
        await guest.console.sendLine("off");
        expect(await guest.waitForStop(WAIT)).toMatchObject({ reason: "power-off" });
        // A kernel that finds something odd about its machine says so in spite of `quiet`.
        expect(guest.console.text).not.toMatch(/BUG|WARNING|unchecked MSR|Firmware Bug|unstable/);
      },
    );
  });
}

/** Goes on with the root on a disk, with a network. */
const ROOT_SCRIPT = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for driver in /drivers/*.ko; do insmod $driver; done
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
mount -t ext4 /dev/vda /root
mount -o move /dev /root/dev
umount /proc /sys
exec switch_root /root /usr/lib/systemd/systemd
`;

const ROOT_DRIVERS = [
  "drivers/block/virtio_blk",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
];

if (all) {
  test("Debian on a virtio disk asks who logs in, and its network works both ways", {
    timeout: 1_800_000,
  }, async () => {
    const path = makeDebianRoot(process.env.LEVERET_TRIXIE_TREE ?? "", directory);
    const initrdPath = join(directory, "root-initrd");
    writeFileSync(initrdPath, busyboxInitrd(ROOT_SCRIPT, ROOT_DRIVERS));
    const server = createServer((socket) => socket.once("data", (data) => socket.end(`you said ${data}`)));
    await once(server.listen(0, "127.0.0.1"), "listening");
    const units = "systemd.unit=login.target systemd.show_status=0 systemd.mask=serial-getty@hvc0.service";
    const { port } = server.address() as AddressInfo;
    await using guest = await startGuest({
      kernelPath: debianKernel() ?? "",
      initrdPath,
      commandLine: `console=ttyS0 quiet nowatchdog audit=0 ${units} host=${port}`,
      memoryMiB: 512,
      cpus: 2,
      disks: [{ path }],
      networks: [{ type: "user" }],
    });
    await guest.console.waitFor("the host says you said hello", WAIT);
    await guest.console.waitFor("debian login: ", WAIT);
    const { hostPort } = await guest.forward({ guestPort: 8080 });
    const socket = connect(hostPort, "127.0.0.1", () => socket.write("hello\n"));
    expect(String(await once(socket, "data"))).toBe("the guest says hello\n");
    socket.destroy();
    server.close();
    expect(guest.console.text).not.toMatch(/BUG|WARNING|EXT4-fs error/);
  });
}
