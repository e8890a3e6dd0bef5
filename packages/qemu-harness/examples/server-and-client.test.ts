// A server that keeps what its client says, over a reboot and a crash. Run it with vitest; the initrd has to bring
// busybox, the drivers of disk and network card, and an /init that says `ready` (test/example.e2e.test.ts makes one).
import { writeFile } from "node:fs/promises";
import { createNetwork, type Machine } from "@leveret/qemu-harness";
import { expect, test } from "@leveret/qemu-harness/vitest";

const { KERNEL = "vmlinuz", INITRD = "initrd", DISK = "server.raw", PICTURE = "client.png" } = process.env;
const STORE = `#!/bin/sh
read -r line
[ -z "$line" ] || echo "$line" | dd of=/dev/vda bs=512 conv=sync,fsync
head -n 1 /dev/vda
`;

test("a server keeps what its client says", async ({ startMachine }) => {
  const lan = createNetwork();
  const start = async (name: string, address: string): Promise<Machine> => {
    const machine = await startMachine(
      {
        name,
        boot: {
          type: "linux",
          kernelPath: KERNEL,
          initrdPath: INITRD,
          commandLine: "console=tty0 console=ttyS0",
          fast: true,
        },
        disks: name === "server" ? [{ path: DISK, access: "writable" }] : [],
        networks: [{ type: "private", name: "lan" }],
        graphics: {},
        agent: true,
      },
      { networks: { lan } },
    );
    await expect(machine).toReachConsole("ready");
    await machine.agent.exec(["ifconfig", "eth0", address, "up"]);
    return machine;
  };
  const startServer = async (): Promise<Machine> => {
    const server = await start("server", "10.0.0.1");
    await server.agent.writeFile("/store", STORE, { mode: 0o755 });
    await server.agent.spawn(["nc", "-ll", "-p", "7", "-e", "/store"]);
    await expect(server).toListenOn(7);
    return server;
  };
  const client = await start("client", "10.0.0.2");
  const say = async (line: string): Promise<string> =>
    (await client.agent.exec(["nc", "10.0.0.1", "7"], { input: `${line}\n`, timeoutMs: 60_000 })).stdout.trim();

  const server = await startServer();
  expect(await say("before the reboot")).toBe("before the reboot");

  server.agent.spawn(["reboot", "-f"]).catch(() => {});
  expect((await server.waitForExit()).reason).toBe("guest-reset");
  const rebooted = await startServer();
  expect(await say("")).toBe("before the reboot");

  expect(await say("before the crash")).toBe("before the crash");
  await rebooted.kill();
  await startServer();
  expect(await say("")).toBe("before the crash");

  await writeFile(PICTURE, await client.screen.screenshot());
});
