import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { type GdbServer, type Machine, type MachineDescription, startMachine } from "../src/index.ts";
import { leaveNothing } from "./leftovers.ts";
import { missingOracles, missingPrograms, titled } from "./oracles.ts";
import { testQemus } from "./qemus.ts";
import { toyKernel } from "./toy-kernel.ts";

const missingTools = missingOracles() || missingPrograms("gdb");
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-gdb-"));
const kernelPath = join(directory, "toy");
writeFileSync(kernelPath, toyKernel());
afterAll(() => rmSync(directory, { recursive: true }));

const toy: MachineDescription = { memoryMiB: 32, boot: { type: "kernel", kernelPath } };
const MULTIBOOT_MAGIC = "0x1badb002";

/** Runs commands of gdb on a machine, and returns what it printed. */
async function gdb({ host, port }: GdbServer, ...commands: string[]): Promise<string> {
  const all = [`target remote ${host}:${port}`, ...commands].flatMap((command) => ["-ex", command]);
  const { stdout } = await promisify(execFile)("gdb", ["-nx", "-batch", ...all]);
  return stdout;
}

/** Connects, and leaves again. */
async function connected({ host, port }: GdbServer): Promise<void> {
  const socket = connect(port, host);
  await once(socket, "connect");
  socket.destroy();
}

async function echoes(machine: Machine, text: string): Promise<void> {
  await machine.serial.write(text);
  await machine.serial.waitFor(text);
}

for (const { name, path, missing: missingQemu } of testQemus()) {
  const missing = missingTools || missingQemu;
  describe.skipIf(missing !== "")(titled(`gdb on ${name}`, missing), () => {
    leaveNothing();
    const start = async (): Promise<Machine> => {
      const machine = await startMachine(toy, { accelerator: "tcg", env: { ...process.env, LEVERET_QEMU: path } });
      await machine.serial.waitFor("READY");
      return machine;
    };

    test("reads and changes a machine, which goes on when it has left", async () => {
      await using machine = await start();
      await using server = await machine.gdb();
      await echoes(machine, "running");
      expect(await gdb(server, "x/1xw 0x100000", "set {int}0x180000 = 0x12345678", "detach")).toContain(
        MULTIBOOT_MAGIC,
      );
      await echoes(machine, "detached");
      expect(await gdb(server, "x/1xw 0x180000", "disconnect")).toContain("0x12345678");
      expect(await machine.qmp.execute("query-status")).toMatchObject({ running: false });
      await server.close();
      await echoes(machine, "closed");
      await server.close();
      await expect(connected(server)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    });

    test("has one port at a time, which may be any that is free", async () => {
      await using machine = await start();
      const taken = createServer().listen(0, "127.0.0.1");
      await once(taken, "listening");
      const { port } = taken.address() as { readonly port: number };
      try {
        await expect(machine.gdb({ port })).rejects.toMatchObject({ code: "QEMU_FORWARD_FAILED" });
      } finally {
        await new Promise((resolve) => taken.close(resolve));
      }
      await expect(machine.gdb({ port: 0 })).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
      const first = await machine.gdb({ port });
      expect(first).toMatchObject({ host: "127.0.0.1", port });
      await expect(machine.gdb()).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
      await first.close();
      const second = await machine.gdb();
      await connected(second);
      await machine.kill();
      await second.close();
    });
  });
}
