import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { selfTest, startGuest, VmmError } from "../src/index.ts";
import { buildGuests, busyboxInitrd, debianKernel, missingRust, testQemus, titled } from "./support.ts";

/** Exits for ports, CPUID and devices in memory until Linux switches itself off; most are for characters. */
const MAX_LINUX_EXITS = 6000;

const missing = missingRust();
const directory = mkdtempSync(join(tmpdir(), "vmm-native-"));
afterAll(() => rmSync(directory, { recursive: true }));

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

async function failure(promise: Promise<unknown>): Promise<VmmError> {
  const error = await promise.then(
    () => new Error("expected a failure"),
    (reason: unknown) => reason,
  );
  if (error instanceof VmmError) return error;
  throw error;
}

for (const qemu of testQemus()) {
  const absent = missing || qemu.missing;
  describe.skipIf(absent !== "")(titled(`a guest in ${qemu.name}`, missing), () => {
    test("writes to its serial port, halts, and is said to have halted", async () => {
      const options = { qemu: await qemu.find() };
      await using guest = await startGuest({ kernelPath: guestFile("hello"), memoryMiB: 16 }, options);
      await guest.console.waitFor(/^hello from a guest\n/);
      const stop = await guest.waitForStop();
      expect(stop).toMatchObject({ reason: "halted", exits: { IOIO: "hello from a guest\n".length, HLT: 1 } });
      expect(await guest.waitForStop()).toBe(stop);
    });

    test("finds its processor as the manual describes it", async () => {
      const options = { qemu: await qemu.find() };
      await using guest = await startGuest({ kernelPath: guestFile("probe"), memoryMiB: 16 }, options);
      await guest.console.waitFor("done\n");
      const found = guest.console.text.trimEnd().split("\n");
      expect(found.filter((line) => !line.startsWith("ok "))).toEqual(["done"]);
      expect(found).toHaveLength(17);
    });

    test("is refused when its control block breaks a rule of the manual", async () => {
      const checks = await selfTest({ qemu: await qemu.find() });
      const legal = checks.shift();
      expect(legal).toEqual({ rule: "none", refused: false, exit: "HLT" });
      expect(checks).toHaveLength(18);
      // QEMU takes any address of nested tables, and does not use the guest's page attributes.
      const taken = checks.filter(({ refused }) => !refused).map(({ rule }) => rule);
      expect(taken).toEqual(["ncr3-mbz", "g-pat"]);
    });

    test("that consists of garbage triple-faults", async () => {
      const options = { qemu: await qemu.find() };
      const kernelPath = scratch("garbage", Buffer.alloc(4096, 0xff));
      await using guest = await startGuest({ kernelPath, memoryMiB: 16, cpus: 8 }, options);
      expect(await guest.waitForStop()).toMatchObject({ reason: "triple-fault", exits: { SHUTDOWN: 1 } });
    });
  });
}

const kernelPath = debianKernel() ?? "";
const noLinux = missing || (kernelPath === "" ? "no kernel in the tree of oracles" : "");

describe.skipIf(noLinux !== "")(titled("Linux", noLinux), () => {
  test.each([1, 2])("boots to userspace on %i processors, is typed to, and switches itself off", async (cpus) => {
    const script = [
      "export PATH=/bin",
      "busybox mkdir /proc",
      "busybox mount -t proc proc /proc",
      "echo $(busybox nproc) processors, $(busybox uname -m)",
      "busybox grep -o 'ttyS0' /proc/interrupts",
      "echo it is $(busybox date +%s).",
      "read line; echo read: $line",
      "busybox poweroff -f",
    ].join("\n");
    const initrdPath = scratch("initrd", busyboxInitrd(script));
    await using guest = await startGuest({ kernelPath, initrdPath, commandLine: "console=ttyS0 quiet", cpus });
    await guest.console.waitFor(`${cpus} processors, x86_64`);
    await guest.console.waitFor("ttyS0");
    const { groups } = await guest.console.waitFor(/it is (\d+)\./);
    expect(Math.abs(Number(groups[0]) - Date.now() / 1000)).toBeLessThan(60);
    await guest.console.sendLine("typed");
    await guest.console.waitFor("read: typed");
    const { reason, rips, exits } = await guest.waitForStop();
    expect(reason).toBe("power-off");
    expect(rips).toHaveLength(cpus);
    // Those that do not depend on how long it takes.
    const { IOIO = 0, CPUID = 0, NPF = 0 } = exits;
    expect(IOIO + CPUID + NPF).toBeLessThan(MAX_LINUX_EXITS);
    // A kernel that finds something odd about its processor says so in spite of `quiet`.
    expect(guest.console.text).not.toMatch(/BUG|WARNING|unchecked MSR|Firmware Bug/);
  });

  test("is not started with too little memory, a part of a kernel, or a command line that is too long", async () => {
    const small = await failure(startGuest({ kernelPath, memoryMiB: 32 }));
    expect(small).toMatchObject({ code: "VMM_BAD_KERNEL" });
    expect(small.message).toMatch(/^expected \d+ bytes of memory for kernel and initrd, got 33554432$/);
    for (const size of [4096, statSync(kernelPath).size / 2]) {
      const part = scratch("part", readFileSync(kernelPath).subarray(0, size));
      const message = `expected a whole kernel, got its first ${Math.floor(size)} bytes`;
      expect(await failure(startGuest({ kernelPath: part }))).toMatchObject({ code: "VMM_BAD_KERNEL", message });
    }
    const long = await failure(startGuest({ kernelPath, commandLine: "x".repeat(3000) }));
    expect(long.message).toBe("expected a command line of at most 2047 bytes, got 3000");
  });
});

describe.skipIf(missing !== "")(titled("a guest that does not start", missing), () => {
  test("names the kernel that cannot be read", async () => {
    const error = await failure(startGuest({ kernelPath: "/nonexistent" }));
    expect(error).toMatchObject({ code: "VMM_UNREADABLE", path: "/nonexistent" });
  });

  test.each([
    ["a directory", tmpdir(), /^expected a readable kernel, got .*, which is no regular file$/],
    ["a device", "/dev/zero", /^expected a readable kernel, got \/dev\/zero, which is no regular file$/],
    ["nothing", scratch("empty", Buffer.alloc(0)), /^expected a readable kernel, got .*, which is empty$/],
  ])("is not made of %s", async (_, kernelPath, message) => {
    const error = await failure(startGuest({ kernelPath }));
    expect(error).toMatchObject({ code: "VMM_UNREADABLE", message: expect.stringMatching(message) });
  });

  test("is not made of an ELF file", async () => {
    const error = await failure(startGuest({ kernelPath: process.execPath }));
    const message = "expected a Linux bzImage or a flat binary, got an ELF file";
    expect(error).toMatchObject({ code: "VMM_BAD_KERNEL", message });
  });

  test("names each field that is wrong", async () => {
    const error = await failure(startGuest({ kernelPath: "", memoryMiB: 1 }));
    expect(error.code).toBe("VMM_BAD_OPTIONS");
    expect(error.issues?.map(({ path }) => path)).toEqual(["kernelPath", "memoryMiB"]);
  });

  test("does not fit into its memory", async () => {
    const kernelPath = scratch("too-large", Buffer.alloc(17 << 20));
    const error = await failure(startGuest({ kernelPath, memoryMiB: 16 }));
    expect(error).toMatchObject({ code: "VMM_BAD_KERNEL", message: expect.stringContaining("18874368") });
  });
});
