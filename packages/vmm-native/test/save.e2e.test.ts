import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHypervisor } from "../src/index.ts";
import { openSavedGuest } from "../src/saved-guest.ts";
import { buildGuests, busyboxInitrd, debianKernel, missingRust, noise, sha256, testQemus, titled } from "./support.ts";

const missing = missingRust();
const kernelPath = debianKernel() ?? "";
const noLinux = missing || (kernelPath === "" ? "no kernel in the tree of oracles" : "");
const directory = mkdtempSync(join(tmpdir(), "vmm-native-save-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** How long a guest may take: minutes on a machine that has much else to do. */
const WAIT = { timeoutMs: 900_000 };

/** Writes a file that is gone when the tests are over. */
function scratch(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

/** Ends bytes with their digest, as files of guests do. */
const sealed = (bytes: Uint8Array) => Buffer.concat([bytes, createHash("sha256").update(bytes).digest()]);

let guestFile: (name: string) => string;
beforeAll(() => {
  if (missing === "") guestFile = buildGuests();
});

for (const qemu of testQemus()) {
  const absent = missing || qemu.missing;
  test.skipIf(absent !== "")(titled(`a guest in ${qemu.name} goes on in another hypervisor`, missing), async () => {
    const path = join(directory, "waits");
    const options = { qemu: await qemu.find() };
    {
      await using hypervisor = await createHypervisor({ memoryMiB: 64 }, options);
      const vm = await hypervisor.createVm({ kernelPath: guestFile("waits"), memoryMiB: 60 });
      await vm.run();
      await vm.console.waitFor("waiting");
      await vm.save(path);
      // It goes on here, too.
      await vm.inject(0, 0x41);
      await vm.console.waitFor("vector 65\n");
      await vm.destroy();
      await expect(vm.save(path)).rejects.toMatchObject({ code: "VMM_REFUSED" });
    }
    await using hypervisor = await createHypervisor({ memoryMiB: 64 }, options);
    const vm = await hypervisor.restore(path);
    await vm.run();
    await vm.inject(0, 0x42);
    await vm.console.waitFor("vector 66\n");
    expect(vm.console.text).toBe("vector 66\n");
    expect(readdirSync(directory)).toEqual(["waits"]);
    await using small = await createHypervisor({ memoryMiB: 16 }, options);
    await expect(small.restore(path)).rejects.toMatchObject({ code: "VMM_REFUSED" });
  });
}

describe.skipIf(missing !== "")(titled("what is no saved guest", missing), () => {
  test("is refused before anything is made of it", async () => {
    await using hypervisor = await createHypervisor({ memoryMiB: 64 });
    const path = join(directory, "saved");
    const vm = await hypervisor.createVm({ kernelPath: guestFile("hello"), memoryMiB: 16 });
    await vm.save(path);
    const whole = readFileSync(path);
    const refused = async (bytes: Uint8Array, code = "VMM_BAD_STATE") =>
      expect(openSavedGuest(scratch("other", bytes)), `${bytes.length} bytes`).rejects.toMatchObject({ code });
    await refused(whole.subarray(0, 0), "VMM_UNREADABLE");
    for (let length = 1; length < whole.length; length += 97) await refused(whole.subarray(0, length));
    for (let at = 0; at < whole.length; at += 101) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 0x10;
      await refused(changed);
    }
    // Parts that say that they are longer than they are, with a digest that is right.
    for (const length of [1, 0x10_0000, 0x10_0001, 0xffff_ffff]) {
      const body = Buffer.from(whole.subarray(0, 20 + 12));
      body.writeUInt32LE(length, 16);
      await refused(sealed(body));
    }
    // What the hypervisor has to find out: a state that is not whole, of another machine, or of nobody.
    const stateAt = 20 + whole.readUInt32LE(16);
    const state = whole.subarray(stateAt + 12, stateAt + 12 + whole.readUInt32LE(stateAt + 8));
    const withState = (other: Uint8Array) => {
      const header = Buffer.from(whole.subarray(0, stateAt + 12));
      header.writeUInt32LE(other.length, stateAt + 8);
      return scratch("other", sealed(Buffer.concat([header, other])));
    };
    const flipped = Buffer.from(state);
    flipped[20] = (flipped[20] ?? 0) ^ 1;
    for (const [other, message] of [
      [state.subarray(0, -1), /^expected more than \d+ bytes/],
      [Buffer.concat([state, state]), /^expected the end of a state/],
      [noise(state.length & ~3, 7), "expected a processor with the same features, got another one"],
      [flipped, /^expected a state that a device can be in/],
    ] as const) {
      await expect(hypervisor.restore(withState(other))).rejects.toMatchObject({
        code: "VMM_REFUSED",
        message: expect.stringMatching(message),
      });
    }
    await (await hypervisor.restore(withState(state))).destroy();
    const unwritable = vm.save(join(directory, "nowhere", "guest"));
    await expect(unwritable).rejects.toMatchObject({ code: "VMM_UNWRITABLE" });
    await vm.run();
    await vm.console.waitFor("hello from a guest");
  });
});

test.skipIf(noLinux !== "")(
  titled("Linux goes on in another hypervisor with its processors, disk and clock", noLinux),
  { timeout: WAIT.timeoutMs },
  async () => {
    const script = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir /proc /dev
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
insmod /drivers/virtio_blk.ko
n=0
echo ready
while read line; do
  n=$((n+1))
  echo "$n $line, $(nproc) processors, up $(cut -d. -f1 /proc/uptime), $(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | sha256sum)"
done
`;
    const content = noise(1 << 20, 3);
    const disks = [{ path: scratch("disk", content), access: "read-only" as const }];
    const initrdPath = scratch("initrd", busyboxInitrd(script, ["drivers/block/virtio_blk"]));
    const path = join(directory, "linux");
    const answer = (n: number, line: string) => new RegExp(`${n} ${line}, 2 processors, up (\\d+), ${sha256(content)}`);
    let up: number;
    {
      await using hypervisor = await createHypervisor({ memoryMiB: 320, disks });
      const commandLine = "console=ttyS0 quiet nowatchdog";
      const vm = await hypervisor.createVm({ kernelPath, initrdPath, commandLine, cpus: 2, disks: [0] });
      await vm.run();
      await vm.console.waitFor("ready", WAIT);
      await vm.console.sendLine("first");
      up = Number((await vm.console.waitFor(answer(1, "first"), WAIT)).groups[0]);
      await vm.save(path);
    }
    await using hypervisor = await createHypervisor({ memoryMiB: 320, disks });
    const vm = await hypervisor.restore(path);
    await vm.run();
    await vm.console.sendLine("second");
    const { groups } = await vm.console.waitFor(answer(2, "second"), WAIT);
    expect(Number(groups[0])).toBeGreaterThanOrEqual(up);
    expect(vm.console.text).not.toMatch(/BUG|WARNING|clocksource|rcu_/);
  },
);
