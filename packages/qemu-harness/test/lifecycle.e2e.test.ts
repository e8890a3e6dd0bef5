import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { type MachineDescription, type QemuError, type StartOptions, startMachine } from "../src/index.ts";
import { failure } from "./failure.ts";
import { descendants, isAlive, leaveNothing } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";
import { FLOOD, toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-test-"));
const kernelPath = join(directory, "toy");
const COMMAND = fileURLToPath(new URL("../bin/qemu-harness.js", import.meta.url));

writeFileSync(kernelPath, toyKernel());
afterAll(() => rmSync(directory, { recursive: true }));

const toy: MachineDescription = {
  memoryMiB: 32,
  boot: { type: "kernel", kernelPath, commandLine: "hello, world" },
};
const tcg: StartOptions = { accelerator: "tcg" };

describe.skipIf(missing !== "")(titled("a machine", missing), () => {
  leaveNothing();

  test("boots a kernel with its command line, echoes what is typed and powers off at the button", async () => {
    await using machine = await startMachine(toy, tcg);
    const ready = await machine.serial.waitFor(/^READY \S+ (.*)\n/);
    expect(ready.groups).toEqual(["hello, world"]);
    await machine.serial.write("ping");
    await machine.serial.waitFor("ping");
    const bye = machine.serial.waitFor("BYE");
    expect(await machine.powerdown({ timeoutMs: 20_000 })).toEqual({ exitCode: 0, reason: "guest-shutdown" });
    await bye;
  });

  test("ends when the guest resets, and says so", async () => {
    await using machine = await startMachine(toy, tcg);
    await machine.serial.waitFor("READY");
    await machine.serial.write("\u0012");
    expect(await machine.waitForExit({ timeoutMs: 20_000 })).toEqual({ exitCode: 0, reason: "guest-reset" });
  });

  test("leaves nothing behind when it is disposed of while running, with a TPM and credentials", async () => {
    const machine = await startMachine({ ...toy, tpm: {}, credentials: { secret: "swordfish" } }, tcg);
    expect(isAlive(machine.tpmPid ?? 0)).toBe(true);
    const everything = readFileSync(`/proc/${machine.pid}/cmdline`, "latin1") + machine.commandLine;
    expect(everything).not.toMatch(new RegExp(`swordfish|${Buffer.from("swordfish").toString("base64")}`));
    await machine[Symbol.asyncDispose]();
    await machine.close();
    expect([machine.pid, machine.tpmPid ?? 0].filter(isAlive)).toEqual([]);
  });

  test("fails to start with what QEMU said and a command line", async () => {
    const error = await failure(startMachine({ ...toy, tpm: {}, disks: [{ path: "/nowhere,at all" }] }, tcg));
    expect(error.code).toBe("QEMU_START_FAILED");
    expect(error.message).toContain("Could not open '/nowhere,at all': No such file or directory");
    expect(error.commandLine).toContain("'if=none,id=disk0,format=raw,snapshot=on,cache=unsafe,file=/nowhere,,at all'");
    expect(error.exitCode).toBe(1);
  });

  test("fails to start with a state file that is not a TPM's", async () => {
    const statePath = join(directory, "not-a-tpm");
    writeFileSync(statePath, "x".repeat(100_000));
    const error = await failure(startMachine({ ...toy, tpm: { statePath } }, tcg));
    expect(error).toMatchObject({ code: "QEMU_TPM_FAILED", path: statePath });
    expect(readFileSync(statePath, "latin1")).toBe("x".repeat(100_000));
  });

  test("fails to start with a state file that is damaged", async () => {
    const statePath = join(directory, "damaged-tpm");
    writeFileSync(statePath, `nilmptws${"x".repeat(1000)}`);
    expect((await failure(startMachine({ ...toy, tpm: { statePath } }, tcg))).code).toBe("QEMU_TPM_FAILED");
  });

  test("keeps the TPM's state in the file it was given", async () => {
    const statePath = join(directory, "tpm, state");
    for (const _ of [1, 2]) {
      await using machine = await startMachine({ ...toy, tpm: { statePath } }, tcg);
      expect(await machine.qmp.execute("query-tpm")).toMatchObject([{ model: "tpm-crb" }]);
    }
    expect(readFileSync(statePath).length).toBeGreaterThan(1000);
  });

  test("names the process that holds an image", async () => {
    const path = join(directory, "locked.raw");
    writeFileSync(path, new Uint8Array(1 << 20));
    const writable: MachineDescription = { ...toy, disks: [{ path, access: "writable" }] };
    await using _holder = await startMachine(writable, tcg);
    expect((await failure(startMachine(writable, tcg))).code).toBe("QEMU_IMAGE_LOCKED");
  });

  test("throws writes away unless the disk is writable", async () => {
    const path = join(directory, "disk.raw");
    writeFileSync(path, new Uint8Array(1 << 20));
    const write = { "command-line": 'qemu-io disk0 "write -P 0xaa 0 512"' };
    for (const access of ["throw-away", "writable"] as const) {
      await using machine = await startMachine({ ...toy, disks: [{ path, access }] }, tcg);
      await machine.qmp.execute("human-monitor-command", write);
      await machine.quit();
      expect(readFileSync(path)[0], access).toBe(access === "writable" ? 0xaa : 0);
    }
  });

  test("forwards a port of the host", async () => {
    const hostPort = await freePort();
    await using machine = await startMachine(
      { ...toy, networks: [{ type: "user", isolated: true, forwards: [{ hostPort, guestPort: 22 }] }] },
      tcg,
    );
    await machine.serial.waitFor("READY");
    await connect(hostPort);
    await expect(startMachine(machine.description, tcg)).rejects.toMatchObject({ code: "QEMU_FORWARD_FAILED" });
  });

  test("opens and closes ports of the host while it runs", async () => {
    await using machine = await startMachine({ ...toy, networks: [{ type: "user", isolated: true }] }, tcg);
    const [one, other] = await Promise.all([machine.forward({ guestPort: 22 }), machine.forward({ guestPort: 22 })]);
    expect(one.hostPort).not.toBe(other.hostPort);
    await Promise.all([connect(one.hostPort), connect(other.hostPort)]);
    const { hostPort } = one;
    await expect(machine.forward({ hostPort, guestPort: 80 })).rejects.toMatchObject({ code: "QEMU_FORWARD_FAILED" });
    await one.close();
    await one.close();
    await expect(connect(hostPort)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await using again = await machine.forward({ protocol: "udp", hostPort, guestPort: 53 });
    expect(again).toMatchObject({ protocol: "udp", hostAddress: "127.0.0.1", hostPort, guestPort: 53 });
    await expect(machine.forward({ guestPort: 0 })).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
    await machine.quit();
    await other.close();
    await using lonely = await startMachine(toy, tcg);
    await expect(lonely.forward({ guestPort: 22 })).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
  });

  test("has several consoles", async () => {
    const consoles = [{ name: "first" }, { name: "log", type: "virtio" as const }];
    await using machine = await startMachine({ ...toy, consoles }, tcg);
    await machine.console("first").waitFor("READY");
    expect(machine.serial).toBe(machine.console("first"));
    expect(machine.console("log").text).toBe("");
    expect(() => machine.console("none")).toThrow(TypeError);
    await expect(machine.advance("1s")).rejects.toBeInstanceOf(TypeError);
  });

  test("is never started after its signal", async () => {
    const error = await failure(startMachine(toy, { ...tcg, signal: AbortSignal.abort() }));
    expect(error.code).toBe("QEMU_ABORTED");
  });

  test.for([0, 5, 20, 60, 120])("is taken apart when its signal comes %i ms into the start", async (delayMs) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), delayMs);
    const started = startMachine({ ...toy, tpm: {} }, { ...tcg, signal: controller.signal });
    const outcome = await started.then(
      (machine) => machine.waitForExit({ timeoutMs: 10_000 }),
      (error: QemuError) => error.code,
    );
    expect(["QEMU_ABORTED", "object"]).toContain(typeof outcome === "object" ? "object" : outcome);
  });

  test("ends when its signal comes while it runs, and every wait fails", async () => {
    const controller = new AbortController();
    const machine = await startMachine(toy, { ...tcg, signal: controller.signal });
    const waiting = failure(machine.serial.waitFor("never"));
    controller.abort();
    expect((await waiting).code).toBe("QEMU_CLOSED");
    expect(await machine.waitForExit()).toEqual({ signal: "SIGKILL" });
  });

  test("fails a start that takes too long", async () => {
    // QEMU answers when somebody has connected to this, and nobody does.
    const nobody = `socket,id=nobody,path=${join(directory, "nobody")},server=on,wait=on`;
    const error = await failure(startMachine({ ...toy, extraArgs: ["-chardev", nobody] }, { ...tcg, timeoutMs: 500 }));
    expect(error).toMatchObject({ code: "QEMU_START_TIMEOUT", timeoutMs: 500 });
  });

  test("shows the end of the console and the command line when a wait takes too long", async () => {
    await using machine = await startMachine(toy, tcg);
    await machine.serial.waitFor("READY");
    const error = await failure(machine.serial.waitFor(/never/, { timeoutMs: 200 }));
    expect(error).toMatchObject({ code: "QEMU_CONSOLE_TIMEOUT", waitedFor: "/never/", timeoutMs: 200 });
    expect(error.consoleTail).toContain("hello, world");
    expect(error.commandLine).toBe(machine.commandLine);
  });

  test("fails every wait at once when QEMU is killed", async () => {
    await using machine = await startMachine({ ...toy, tpm: {} }, tcg);
    await machine.serial.waitFor("READY");
    const waits = [
      failure(machine.serial.waitFor("one")),
      failure(machine.serial.waitForAny({ b: /two/, c: "three" })),
    ];
    const event = failure(machine.qmp.once("STOP"));
    process.kill(machine.pid, "SIGKILL");
    for (const wait of waits) expect(await wait).toMatchObject({ code: "QEMU_EXITED", signal: "SIGKILL" });
    expect((await event).code).toBe("QEMU_QMP_CLOSED");
    expect((await failure(machine.serial.waitFor("later"))).code).toBe("QEMU_EXITED");
    await machine.serial.waitFor("READY", { from: "start" });
    expect(await machine.waitForExit()).toEqual({ signal: "SIGKILL" });
  });

  test("survives the death of its TPM emulator long enough to be closed", async () => {
    await using machine = await startMachine({ ...toy, tpm: {} }, tcg);
    process.kill(machine.tpmPid ?? 0, "SIGKILL");
    await machine.serial.waitFor("READY");
  });

  test("is closed although it floods its console, in bounded memory", async () => {
    await using machine = await startMachine(toy, tcg);
    await machine.serial.waitFor("READY");
    await machine.serial.write("\u0006");
    const flood = failure(machine.serial.waitFor(/never/, { timeoutMs: 1500 }));
    expect((await flood).code).toBe("QEMU_CONSOLE_TIMEOUT");
  });

  test("loses nothing of a flood while this process is busy, and has it go on while 64 KiB wait", async () => {
    await using machine = await startMachine(toy, tcg);
    await machine.serial.waitFor("READY");
    const turns: number[] = [];
    let text = "";
    const flood = new Promise<void>((resolve) => {
      machine.serial.onOutput((chunk) => {
        text += Buffer.from(chunk).toString("latin1");
        turns.push(chunk.length);
        if (text.length > 200_000) resolve();
      });
    });
    await machine.serial.write("\u0006");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
    await flood;
    expect(Math.max(...turns)).toBe(64 * 1024);
    const from = text.indexOf(FLOOD);
    const expected = FLOOD.repeat(Math.ceil(text.length / FLOOD.length));
    expect(text.slice(from) === expected.slice(0, text.length - from)).toBe(true);
    expect(from).toBeLessThan(FLOOD.length);
  });

  test("dies with its parent, however that dies", async () => {
    const description = join(directory, "orphan.json");
    writeFileSync(join(directory, "disk.raw"), new Uint8Array(1 << 20));
    writeFileSync(
      description,
      JSON.stringify({ ...toy, tpm: {}, credentials: { a: "b" }, disks: [{ path: "disk.raw" }] }),
    );
    const parent = spawn(process.execPath, [COMMAND, "run", description, "--accelerator", "tcg"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = new Promise((resolve) => parent.once("close", resolve));
    await new Promise<void>((resolve, reject) => {
      let output = "";
      parent.stdout.on("data", (chunk) => {
        output += chunk;
        if (output.includes("READY")) resolve();
      });
      parent.once("exit", (code) => reject(new Error(`the parent ended with ${code}; is the package built?`)));
    });
    const children = descendants(parent.pid ?? 0);
    expect(children).toHaveLength(2);
    parent.kill("SIGKILL");
    await ended;
    for (let attempt = 0; attempt < 40 && children.some(isAlive); attempt += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(children.filter(isAlive)).toEqual([]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("expected a TCP port");
  return address.port;
}

async function connect(port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const socket = createConnection(port, "127.0.0.1", () => resolve(void socket.destroy()));
    socket.once("error", reject);
  });
}
