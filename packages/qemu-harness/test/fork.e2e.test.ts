import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { planFat, writeFat } from "@leveret/disk-image";
import { afterAll, describe, expect, test } from "vitest";
import { type Machine, type MachineDescription, type StartOptions, startMachine, type Template } from "../src/index.ts";
import { ask, reachShell } from "./firmware-shell.ts";
import { descendants, leaveNothing } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-fork-"));
const kernelPath = join(directory, "toy");
const diskPath = join(directory, "disk");
writeFileSync(kernelPath, toyKernel());
afterAll(() => rmSync(directory, { recursive: true }));

const MEBIBYTE = 1024 * 1024;
const toy: MachineDescription = { memoryMiB: 32, boot: { type: "kernel", kernelPath }, forkable: true };
const tcg: StartOptions = { accelerator: "tcg" };

async function templateOf(description: MachineDescription): Promise<Template> {
  const machine = await startMachine(description, tcg);
  await machine.serial.waitFor("READY");
  return machine.template();
}

/** The toy says back what it is told. */
async function echo(machine: Machine, text: string): Promise<string> {
  await machine.serial.write(text);
  return (await machine.serial.waitFor(text)).text;
}

async function writeDisk(): Promise<void> {
  const bytes = new Uint8Array(64 * MEBIBYTE);
  const plan = await planFat({ sizeBytes: bytes.length, volumeId: 1, time: new Date("2026-01-01"), files: {} });
  await writeFat(plan, { write: async (offset, piece) => bytes.set(piece, offset) });
  writeFileSync(diskPath, bytes);
}

function digest(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

describe.skipIf(missing !== "")(titled("a template", missing), () => {
  leaveNothing();

  test("is continued by its forks, side by side and one after the other", async () => {
    await using template = await templateOf(toy);
    expect(template.description.memoryMiB).toBe(32);
    const forks = await Promise.all([template.fork(), template.fork(), template.fork()]);
    expect(await Promise.all(forks.map((fork, index) => echo(fork, `fork ${index}.`)))).toEqual([
      "fork 0.",
      "fork 1.",
      "fork 2.",
    ]);
    expect(new Set(forks.map(({ pid }) => pid)).size).toBe(3);
    for (const fork of forks) await fork.close();
    await using later = await template.fork();
    await echo(later, "later");
    expect(later.serial.text).not.toContain("READY");
    const bye = later.serial.waitFor("BYE");
    expect(await later.powerdown({ timeoutMs: 20_000 })).toMatchObject({ reason: "guest-shutdown" });
    await bye;
  });

  test("may be closed while its forks run", async () => {
    const template = await templateOf(toy);
    const starting = template.fork();
    await template.close();
    await template.close();
    await using fork = await starting;
    await echo(fork, "still here");
    await expect(template.fork()).rejects.toMatchObject({ code: "QEMU_CLOSED" });
  });

  test("of firmware with a TPM and a disk is made while that goes on", async () => {
    await writeDisk();
    await using machine = await startMachine(
      { memoryMiB: 256, boot: { type: "uefi" }, tpm: {}, disks: [{ path: "disk" }], forkable: true },
      { ...tcg, cwd: directory },
    );
    await reachShell(machine);
    await ask(machine, "echo before > fs0:\\before.txt", [/>/]);
    await using template = await machine.checkpoint();
    await ask(machine, "echo after > fs0:\\after.txt", [/>/]);
    await ask(machine, "ls fs0:", [/after\.txt/i, /before\.txt/i]);
    await using fork = await template.fork();
    const [listing] = await ask(fork, "ls fs0:", [/before\.txt[\s\S]*File\(s\)[^\n]*/i]);
    expect(listing?.[0]).not.toMatch(/after\.txt/i);
    await ask(machine, "mm FED40030 -w 4 -MMIO -n", [/: 0x[0-9A-F]{7}1\b/]);
    await expect(fork.checkpoint()).rejects.toMatchObject({ code: "QEMU_NOT_FORKABLE" });
  });

  test("of firmware with a TPM and a disk gives every fork a disk of its own", async () => {
    await writeDisk();
    const before = digest(diskPath);
    const machine = await startMachine(
      { memoryMiB: 256, boot: { type: "uefi" }, tpm: {}, disks: [{ path: "disk" }], forkable: true },
      { ...tcg, cwd: directory },
    );
    await reachShell(machine);
    // The shell asks twice at most: a second echo into the file changes nothing of what is looked for.
    await ask(machine, "echo parent > fs0:\\parent.txt", [/>/]);
    await using template = await machine.template();
    await using one = await template.fork();
    await using other = await template.fork();
    await ask(one, "echo one > fs0:\\one.txt", [/>/]);
    await ask(one, "ls fs0:", [/parent\.txt/i, /one\.txt/i]);
    const [listing] = await ask(other, "ls fs0:", [/parent\.txt[\s\S]*File\(s\)[^\n]*/i]);
    expect(listing?.[0]).not.toMatch(/one\.txt/i);
    // What its control area holds says that there is a TPM, and its emulator took the state of the template's.
    await ask(other, "mm FED40030 -w 4 -MMIO -n", [/: 0x[0-9A-F]{7}1\b/]);
    expect(other.tpmPid).not.toBe(one.tpmPid);
    expect(digest(diskPath)).toBe(before);
  });

  test("is made of a machine that goes on, of its forks, and of theirs", async () => {
    const machine = await startMachine(toy, tcg);
    await using _ = machine;
    await machine.serial.waitFor("READY");
    await using first = await machine.checkpoint();
    await echo(machine, "goes on");
    await using fork = await first.fork();
    await first.close();
    await echo(fork, "first");
    await using second = await fork.checkpoint();
    await using grandchild = await second.fork();
    await Promise.all([echo(fork, "side"), echo(grandchild, "by side"), echo(machine, "still")]);
    await using third = await grandchild.checkpoint();
    await using last = await third.fork();
    await echo(last, "third");
    await expect(fork.template()).rejects.toMatchObject({ code: "QEMU_NOT_FORKABLE" });
    await expect(fork.checkpoint({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "QEMU_ABORTED" });
    await echo(fork, "goes on too");

    const both = await Promise.all([machine.checkpoint(), machine.checkpoint()]);
    await echo(machine, "after both");
    await machine.qmp.execute("stop");
    await (await machine.checkpoint()).close();
    expect(await machine.qmp.execute("query-status")).toMatchObject({ running: false });
    await using ofBoth = await both[1].fork();
    await echo(ofBoth, "one of both");
    await Promise.all(both.map((each) => each.close()));
  });

  test("opens ports of the host into the forks that ask for them", async () => {
    const networks: MachineDescription["networks"] = [
      { type: "user", forwards: [{ hostPort: 48_222, guestPort: 22 }] },
    ];
    await using template = await templateOf({ ...toy, networks });
    await using fork = await template.fork({ forwards: [{ hostPort: 48_223, guestPort: 22 }] });
    await using plain = await template.fork();
    await echo(plain, "no port taken twice");
    await new Promise<void>((resolve, reject) => {
      const socket = createConnection(48_223, "127.0.0.1", () => {
        socket.destroy();
        resolve();
      }).once("error", reject);
    });
    await expect(template.fork({ forwards: [{ hostPort: 48_223, guestPort: 22 }] })).rejects.toMatchObject({
      code: "QEMU_FORWARD_FAILED",
      stderrTail: expect.stringContaining("host forwarding"),
    });
    await echo(fork, "still there");
  });

  test("is not made of a machine that was not started as forkable", async () => {
    await using machine = await startMachine({ ...toy, forkable: false }, tcg);
    await machine.serial.waitFor("READY");
    await expect(machine.template()).rejects.toMatchObject({ code: "QEMU_NOT_FORKABLE" });
    await echo(machine, "runs on");
  });

  test("is not made of a fork", async () => {
    await using template = await templateOf(toy);
    await using fork = await template.fork();
    await expect(fork.template()).rejects.toMatchObject({ code: "QEMU_NOT_FORKABLE" });
  });

  test("is not made of a machine with a device that QEMU cannot save, which runs on", async () => {
    const extraArgs = ["-blockdev", `driver=vvfat,node-name=v,dir=${directory},rw=on`];
    await using machine = await startMachine({ ...toy, extraArgs }, tcg);
    await machine.serial.waitFor("READY");
    const error = await machine.template().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "QEMU_TEMPLATE_FAILED", message: expect.stringContaining("vvfat") });
    await echo(machine, "runs on");
  });

  test("refuses what no fork can be given", async () => {
    await using template = await templateOf(toy);
    await expect(template.fork({ forwards: [{ hostPort: 0, guestPort: 1 }] })).rejects.toMatchObject({
      code: "QEMU_BAD_OPTIONS",
      issues: [{ path: "forwards[0].hostPort" }],
    });
    await expect(template.fork({ forwards: [{ hostPort: 1, guestPort: 1 }] })).rejects.toMatchObject({
      code: "QEMU_BAD_OPTIONS",
      message: "expected no forwards in a fork of a machine without a network of type user",
    });
  });

  test("leaves nothing of a fork that was called off at any moment", async () => {
    await using template = await templateOf(toy);
    for (const delayMs of [0, 5, 20, 40, 60, 80]) {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), delayMs);
      const fork = await template.fork({ signal: abort.signal }).catch((error: unknown) => error);
      clearTimeout(timer);
      if (fork instanceof Error) expect(fork).toMatchObject({ code: "QEMU_ABORTED" });
      else await (fork as Machine).close();
      abort.abort();
    }
    expect(descendants(process.pid)).toEqual([]);
    await using fork = await template.fork();
    await echo(fork, "the template is as it was");
  });

  test("is not made of a disk that is none", async () => {
    const wrong: MachineDescription = { ...toy, disks: [{ path: kernelPath, format: "qcow2" }] };
    await expect(startMachine(wrong, tcg)).rejects.toMatchObject({ code: "QEMU_START_FAILED", path: kernelPath });
    const absent = { ...toy, disks: [{ path: join(directory, "absent") }] };
    await expect(startMachine(absent, tcg)).rejects.toMatchObject({ code: "QEMU_START_FAILED" });
  });
});
