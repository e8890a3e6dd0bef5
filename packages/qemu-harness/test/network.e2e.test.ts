import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, test } from "vitest";
import {
  createNetwork,
  encodeCpio,
  type Machine,
  type MachineDescription,
  type Network,
  startMachine,
} from "../src/index.ts";
import { expect } from "../src/vitest/index.ts";
import { missingAgent } from "./agent-built.ts";
import { busybox, debianKernel, kernelModules, missingKernel, NETWORK_MODULES } from "./kernel.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles() || missingAgent() || missingKernel();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-network-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** An initrd with busybox and the drivers of the card. */
function writeInitrd(): string {
  const path = join(directory, "initrd");
  writeFileSync(path, encodeCpio([busybox(), ...kernelModules(NETWORK_MODULES)], 0));
  return path;
}

async function run(machine: Machine, script: string): Promise<string> {
  const { exitCode, signal, stdout, stderr } = await machine.agent.exec(["/bin/busybox", "sh", "-ec", script]);
  expect({ exitCode, signal }, `${script}: ${stderr}`).toEqual({ exitCode: 0 });
  return stdout.trim();
}

describe.skipIf(missing !== "")(titled("a private network", missing), () => {
  test("carries a server and its client, can be cut, and is heard", async () => {
    const lan = createNetwork();
    const description = (name: string): MachineDescription => ({
      name,
      machine: "microvm",
      memoryMiB: 192,
      boot: {
        type: "linux",
        kernelPath: debianKernel() ?? "",
        initrdPath: writeInitrd(),
        commandLine: "console=ttyS0",
        fast: true,
      },
      networks: [{ type: "private", name: "lan" }],
      agent: true,
    });
    const start = async (name: string, host: number, networks: Record<string, Network>): Promise<Machine> => {
      const machine = await startMachine(description(name), { accelerator: "tcg", networks });
      await run(machine, "for i in 0 1 2; do busybox insmod /drivers/$i.ko; done");
      await run(machine, `busybox ip addr add 10.0.0.${host}/24 dev eth0; busybox ip link set eth0 up`);
      return machine;
    };
    await using server = await start("server", 1, { lan });
    await using client = await start("client", 2, { lan });
    expect(lan.machines).toEqual(["server", "client"]);
    const capture = lan.capture();
    await run(server, "busybox mkdir /www");
    await server.agent.writeFile("/www/index.html", "served\n");
    await expect(expect(server).toListenOn(80, { timeoutMs: 300 })).rejects.toThrow("port 80 to be listened on");
    await run(server, "busybox httpd -h /www");
    await expect(server).toListenOn(80);
    // Nothing that looks up names: a static busybox cannot.
    const fetch = (seconds: number): string =>
      `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w ${seconds} 10.0.0.1 80 | busybox grep served`;
    expect(await run(client, fetch(30))).toBe("served");
    expect(Buffer.from(capture.stop()).toString("latin1")).toContain("GET / HTTP/1.0");

    lan.partition(["server"], ["client"]);
    expect((await client.agent.exec(["/bin/busybox", "sh", "-c", fetch(3)])).exitCode).not.toBe(0);
    lan.partition();
    lan.impair({ duplicate: 0.5, delayMs: 5 });
    expect(await run(client, fetch(30))).toBe("served");

    const twin = startMachine(description("client"), { accelerator: "tcg", networks: { lan } });
    await expect(twin).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS", message: expect.stringContaining("client") });
    const lost = startMachine(description("lost"), { accelerator: "tcg", networks: { wan: lan } });
    await expect(lost).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS", issues: [{ path: "networks[0].name" }] });
  });
});
