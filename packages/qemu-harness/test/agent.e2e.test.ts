import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeCpio, type Machine, startMachine, type Template } from "../src/index.ts";
import { missingAgent } from "./agent-built.ts";
import { busybox, debianKernel, missingKernel } from "./kernel.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles() || missingAgent() || missingKernel();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-agent-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** An initrd of busybox, with an init of its own that says that it runs. */
function writeInitrd(): string {
  const init = "#!/bin/busybox sh\necho init is $$ > /dev/console\nexec /bin/busybox sleep 1000000\n";
  const path = join(directory, "initrd");
  const files = [busybox(), { path: "init", data: Buffer.from(init), executable: true }];
  writeFileSync(path, encodeCpio(files, 0));
  return path;
}

describe.skipIf(missing !== "")(titled("the agent", missing), () => {
  let template: Template;

  // One boot for all: every test has a fork of it.
  beforeAll(async () => {
    const booted = await startMachine(
      {
        memoryMiB: 256,
        boot: {
          type: "kernel",
          kernelPath: debianKernel() ?? "",
          initrdPath: writeInitrd(),
          commandLine: "console=ttyS0 quiet no_timer_check",
        },
        agent: true,
        forkable: true,
      },
      { accelerator: "tcg" },
    );
    await booted.agent.ready();
    await booted.serial.waitFor(/init is (\d+)\n/);
    expect((await booted.agent.exec(["busybox", "mkdir", "-p", "/tmp", "/root"])).exitCode).toBe(0);
    template = await booted.template();
  }, 180_000);
  afterAll(() => template?.close());

  test("leaves the first process to the machine's own init", async () => {
    await using fork = await template.fork();
    const { stdout } = await fork.agent.exec(["busybox", "ps", "-o", "pid,comm,args"]);
    expect(stdout).toMatch(/^ +1 busybox +\/bin\/busybox sleep 1000000$/m);
    expect(stdout).toMatch(/^ +\d+ agent +\/leveret\/agent$/m);
  });

  test("says everything on the console while this process is busy, though a kernel waits 10 ms for a UART", async () => {
    await using fork = await template.fork();
    const lines = Array.from({ length: 400 }, (_, index) => `line ${index} of what the kernel has to say about it`);
    const script = `echo on > /proc/sys/kernel/printk_devkmsg; echo 8 > /proc/sys/kernel/printk
      i=0; while [ $i -lt 400 ]; do echo "line $i of what the kernel has to say about it" > /dev/kmsg; i=$((i+1)); done`;
    await using shell = await fork.agent.spawn(["busybox", "sh", "-c", script]);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
    expect(await shell.exit).toMatchObject({ exitCode: 0 });
    await fork.serial.waitFor("line 399 of what the kernel has to say about it\n");
    expect(fork.serial.text.match(/line .*/g)).toEqual(lines);
  });

  test("runs programs with arguments as they are, variables, a directory and a user", async () => {
    await using fork = await template.fork();
    const { agent } = fork;
    const argv = [
      "busybox",
      "sh",
      "-c",
      'for a in "$@"; do echo "<$a>"; done',
      "sh",
      "a b",
      "",
      "$HOME",
      "'\"\n",
      "ü€",
    ];
    expect(await agent.exec(argv)).toEqual({
      exitCode: 0,
      stdout: "<a b>\n<>\n<$HOME>\n<'\"\n>\n<ü€>\n",
      stderr: "",
    });
    const env = await agent.exec(["busybox", "env"], { env: { A: "1", LANG: undefined } });
    expect(env.stdout.trim().split("\n").sort()).toEqual([
      "A=1",
      "HOME=/root",
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]);
    expect((await agent.exec(["busybox", "pwd"], { cwd: "/proc/self/../1" })).stdout).toBe("/proc/1\n");
    const user = await agent.exec(["busybox", "sh", "-c", "busybox id; echo no > /leveret/refused"], {
      user: { uid: 1000, gid: 100 },
    });
    expect(user).toMatchObject({
      exitCode: 1,
      stdout: "uid=1000 gid=100\n",
      stderr: expect.stringContaining("Permission denied"),
    });
  });

  test("says how programs end, and keeps standard error apart", async () => {
    await using fork = await template.fork();
    const sh = (script: string) => fork.agent.exec(["busybox", "sh", "-c", script]);
    expect(await sh("echo out; echo err >&2; exit 3")).toEqual({ exitCode: 3, stdout: "out\n", stderr: "err\n" });
    expect(await sh("kill -9 $$")).toEqual({ signal: "SIGKILL", stdout: "", stderr: "" });
    // What runs on in the background is not waited for, even when it still holds the output.
    expect(await sh("busybox sleep 1000 & echo done")).toMatchObject({ exitCode: 0, stdout: "done\n" });
  });

  test.each([
    ["a program that is not there", ["nonsense"], {}, "start nonsense, got ENOENT"],
    ["a program that is none", ["/proc/version"], {}, "start /proc/version, got EACCES"],
    ["a directory that is not there", ["busybox"], { cwd: "/no" }, "start busybox, got ENOENT for its directory"],
  ])("refuses %s", async (_, argv, options, message) => {
    await using fork = await template.fork();
    await expect(fork.agent.exec(argv, options)).rejects.toMatchObject({
      code: "QEMU_AGENT_REFUSED",
      message: `expected the guest to ${message}`,
    });
    await expect(fork.agent.spawn(argv, options)).rejects.toMatchObject({ code: "QEMU_AGENT_REFUSED" });
    expect((await fork.agent.exec(["busybox", "true"])).exitCode).toBe(0);
  });

  test("refuses what no guest could be asked", async () => {
    await using fork = await template.fork();
    await expect(fork.agent.exec([])).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS", issues: [{ path: "argv" }] });
    await expect(fork.agent.exec(["a\0b"])).rejects.toMatchObject({ issues: [{ path: "argv[0]" }] });
    await expect(fork.agent.exec(["a"], { env: { "A=B": "c" } })).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
    await expect(fork.agent.exec(Array(5000).fill("a"))).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
    await expect(fork.agent.exec(["busybox", "a".repeat(100_000)])).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
    await expect(fork.agent.readFile("a\0b")).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
  });

  test("carries megabytes in both directions at once, whoever is slower", async () => {
    await using fork = await template.fork();
    const input = randomBytes(3 * 1024 * 1024).toString("hex");
    const { stdout, exitCode } = await fork.agent.exec(["busybox", "cat"], { input });
    expect(exitCode).toBe(0);
    expect(stdout === input).toBe(true);
    // A program that does not read what it is given may end all the same.
    expect(await fork.agent.exec(["busybox", "true"], { input })).toMatchObject({ exitCode: 0 });
  });

  test("stops a program that writes more than is wanted, and one that takes too long", async () => {
    await using fork = await template.fork();
    const { agent } = fork;
    await expect(agent.exec(["busybox", "yes"], { maxOutputBytes: 100_000 })).rejects.toMatchObject({
      code: "QEMU_OUTPUT_LIMIT",
      message: "expected at most 100000 bytes, got more",
    });
    await expect(agent.exec(["busybox", "sleep", "1000"], { timeoutMs: 300 })).rejects.toMatchObject({
      code: "QEMU_AGENT_TIMEOUT",
      message: "expected the end of busybox within 300 ms, got less",
    });
    const abort = new AbortController();
    const waiting = agent.exec(["busybox", "sleep", "1000"], { signal: abort.signal });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "QEMU_ABORTED" });
    expect((await agent.exec(["busybox", "ps", "-o", "args"])).stdout).not.toMatch(/^busybox (yes|sleep 1000$)/m);
  });

  test("runs many programs at once, and refuses more than it has room for", async () => {
    await using fork = await template.fork();
    const counts = Array.from({ length: 20 }, (_, index) => String(index));
    const results = await Promise.all(counts.map((count) => fork.agent.exec(["busybox", "echo", count])));
    expect(results.map(({ stdout }) => stdout.trim())).toEqual(counts);
    const sleepers = await Promise.all(
      Array.from({ length: 128 }, () => fork.agent.spawn(["busybox", "sleep", "999"])),
    );
    await expect(fork.agent.exec(["busybox", "true"])).rejects.toMatchObject({
      message: "expected the guest to start busybox, got EMFILE for its pipes",
    });
    await sleepers[0]?.[Symbol.asyncDispose]();
    expect(await fork.agent.exec(["busybox", "true"])).toMatchObject({ exitCode: 0 });
  });

  test("lets programs be talked to, and signalled", async () => {
    await using fork = await template.fork();
    await using shell = await fork.agent.spawn(["busybox", "sh"]);
    expect(shell.pid).toBeGreaterThan(1);
    const lines = createInterface({ input: shell.stdout })[Symbol.asyncIterator]();
    shell.stdin.write("echo $((6 * 7))\n");
    expect((await lines.next()).value).toBe("42");
    shell.stdin.end("trap 'exit 5' TERM; echo ready; while :; do busybox sleep 1; done\n");
    expect((await lines.next()).value).toBe("ready");
    shell.kill();
    expect(await shell.exit).toEqual({ exitCode: 5 });
  });

  test("gives programs a terminal of a size", async () => {
    await using fork = await template.fork();
    await using shell = await fork.agent.spawn(["busybox", "sh"], { terminal: { rows: 30, columns: 100 } });
    let shown = "";
    const said = new Promise<void>((resolve) => {
      shell.stdout.on("data", (chunk: Uint8Array) => {
        shown += Buffer.from(chunk).toString();
        if (shown.includes("7 41\r\n")) resolve();
      });
    });
    shell.stdin.write("busybox tty; busybox stty size\r");
    shell.resize(7, 41);
    shell.stdin.write("busybox stty size\r");
    await said;
    expect(shown).toContain("/dev/pts/0");
    shell.stdin.write("exit 4\r");
    expect(await shell.exit).toEqual({ exitCode: 4 });
  });

  test("writes and reads files", async () => {
    await using fork = await template.fork();
    const { agent } = fork;
    const bytes = randomBytes(1_000_000);
    await agent.writeFile("/tmp/bytes", bytes, { mode: 0o600 });
    expect(Buffer.from(await agent.readFile("/tmp/bytes")).equals(bytes)).toBe(true);
    expect((await agent.exec(["busybox", "stat", "-c", "%a %s", "/tmp/bytes"])).stdout).toBe("600 1000000\n");
    await agent.writeFile("/tmp/bytes", "shorter");
    expect(Buffer.from(await agent.readFile("/tmp/bytes")).toString()).toBe("shorter");
    await agent.writeFile(
      "/tmp/pieces",
      (async function* () {
        yield Buffer.from("one ");
        yield Buffer.from("two");
      })(),
    );
    expect(Buffer.from(await agent.readFile("/tmp/pieces")).toString()).toBe("one two");
    await agent.writeFile("/tmp/empty", "");
    expect(await agent.readFile("/tmp/empty")).toHaveLength(0);
    await expect(agent.readFile("/tmp/none")).rejects.toMatchObject({
      message: "expected the guest to read /tmp/none, got ENOENT",
    });
    await expect(agent.readFile("/tmp")).rejects.toMatchObject({ message: expect.stringContaining("EISDIR") });
    await expect(agent.writeFile("/none/a", "x")).rejects.toMatchObject({ message: expect.stringContaining("ENOENT") });
    await expect(agent.readFile("/dev/zero", { maxBytes: 1_000_000 })).rejects.toMatchObject({
      code: "QEMU_OUTPUT_LIMIT",
    });
    await agent.exec(["busybox", "mount", "-t", "tmpfs", "-o", "size=64k", "small", "/root"]);
    await expect(agent.writeFile("/root/big", bytes)).rejects.toMatchObject({
      message: "expected the guest to write /root/big, got ENOSPC",
    });
  });

  test("connects to ports of the guest's loopback, which is all the network there is", async () => {
    await using fork = await template.fork();
    const { agent } = fork;
    expect((await agent.exec(["busybox", "ip", "link", "set", "lo", "up"])).exitCode).toBe(0);
    await using server = await agent.spawn(["busybox", "nc", "-ll", "-p", "7000", "-e", "/bin/busybox", "cat"]);
    expect(server.pid).toBeGreaterThan(0);
    const echoed = async (bytes: Buffer): Promise<Buffer> => {
      const socket = await agent.connect(7000);
      socket.end(bytes);
      return buffer(socket);
    };
    // It listens when it is first connected to, or a moment later.
    await expect.poll(() => echoed(Buffer.from("first")).then(String, String)).toBe("first");
    const sent = [1, 70_000, 3_000_000].map((length) => randomBytes(length));
    const received = await Promise.all(sent.map(echoed));
    for (const [index, bytes] of received.entries()) expect(bytes.equals(sent[index] ?? Buffer.alloc(0))).toBe(true);

    const refused = await agent.connect(7001);
    await expect(buffer(refused)).rejects.toMatchObject({
      code: "QEMU_AGENT_REFUSED",
      message: "expected the guest to connect to its port 7001, got ECONNREFUSED",
      errno: "ECONNREFUSED",
    });
    await expect(agent.connect(0)).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
  });

  test("gives forks the time and random numbers of their own", async () => {
    await using one = await template.fork();
    await using other = await template.fork();
    const now = await one.agent.exec(["busybox", "date", "+%s"]);
    expect(Math.abs(Number(now.stdout) - Date.now() / 1000)).toBeLessThan(30);
    const random = (fork: Machine) =>
      fork.agent.exec(["busybox", "hexdump", "-n", "16", "-e", '16/1 "%02x"', "/dev/urandom"]);
    const [first, second] = await Promise.all([random(one), random(other)]);
    expect(first.stdout).toMatch(/^[0-9a-f]{32}$/);
    expect(first.stdout).not.toBe(second.stdout);
  });

  test("lets what runs when the template is taken run on in every fork", async () => {
    const parent = await template.fork();
    await parent.close();
    await using fork = await template.fork();
    expect((await fork.agent.exec(["busybox", "ps", "-o", "args"])).stdout).toContain("sleep 1000000");
  });

  test("ends what waits when the machine ends", async () => {
    const fork = await template.fork();
    const waiting = fork.agent.exec(["busybox", "sleep", "1000"]);
    const spawned = await fork.agent.spawn(["busybox", "sleep", "1000"]);
    await fork.kill();
    await expect(waiting).rejects.toMatchObject({ code: "QEMU_CLOSED" });
    await expect(spawned.exit).rejects.toMatchObject({ code: "QEMU_CLOSED" });
    await expect(fork.agent.exec(["busybox"])).rejects.toMatchObject({ code: "QEMU_CLOSED" });
  });
});

describe.skipIf(missing !== "")(titled("a machine with nothing but the agent", missing), () => {
  test("is one that files can be read of", async () => {
    const boot = {
      type: "kernel",
      kernelPath: debianKernel() ?? "",
      commandLine: "console=ttyS0 quiet no_timer_check",
    } as const;
    await using machine = await startMachine({ memoryMiB: 256, boot, agent: true }, { accelerator: "tcg" });
    expect(Buffer.from(await machine.agent.readFile("/proc/1/comm")).toString()).toBe("agent\n");
  }, 120_000);
});
