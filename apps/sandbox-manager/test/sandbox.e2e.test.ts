import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const BIN = fileURLToPath(new URL("../bin/leveret-sandbox.js", import.meta.url));
/** A guest whose packages the tests of the OS builder have downloaded and installed already. */
const GUEST = fileURLToPath(new URL("../../../examples/particle/", import.meta.url));

let root = "";
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "sandbox-"));
  for (const name of ["one", "other"]) await mkdir(join(root, name));
  for (const name of ["os.config.ts", "os.lock.json", "tree"]) {
    await cp(join(GUEST, name), join(root, "guest", name), { recursive: true });
  }
  env = { ...process.env, XDG_STATE_HOME: join(root, "state"), XDG_RUNTIME_DIR: join(root, "run") };
});
afterAll(async () => {
  for (const { name } of (await list()).sandboxes) await sandbox("one", "stop", name);
  await rm(root, { recursive: true, force: true });
});

interface Run {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the built command in a project. */
async function sandbox(project: string, ...argv: string[]): Promise<Run> {
  const child = spawn(process.execPath, [BIN, ...argv], {
    cwd: join(root, project),
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  const [exitCode] = (await once(child, "close")) as [number | null];
  const [stdout, stderr] = await output;
  return { exitCode, stdout, stderr };
}

async function start(project: string): Promise<string> {
  const { exitCode, stdout, stderr } = await sandbox(
    project,
    "start",
    "--image",
    join(root, "guest"),
    "--memory",
    "512",
  );
  expect(exitCode, stderr).toBe(0);
  return stdout;
}

async function list(): Promise<{ sandboxes: { name: string; directory: string; pid: number }[] }> {
  const { stdout } = await sandbox("one", "ls", "--json");
  return JSON.parse(stdout);
}

/** What something that listens sends before it ends, once it does; undefined when nothing listens. */
async function heard(host: string, port: number): Promise<string | undefined> {
  const socket = connect({ host, port });
  return text(socket).catch(() => undefined);
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** A program for Perl that answers every connection with a text. */
function listening(address: string, port: number, says: string): string {
  return `use IO::Socket::INET; $| = 1; my $s = IO::Socket::INET->new(LocalAddr => "${address}", LocalPort => ${port},
    Listen => 5, ReuseAddr => 1) or die $!; print "listens\\n"; while (my $c = $s->accept) { print $c "${says}"; close $c }`;
}

// In this order: each needs what the ones before it made.
describe("leveret-sandbox", () => {
  test("starts a machine for a project, and finds it again", async () => {
    expect(await start("one")).toBe("vm-1 127.0.1.1\n");
    expect(await start("one")).toBe("vm-1 127.0.1.1\n");
    const { sandboxes } = await list();
    expect(sandboxes).toHaveLength(1);
    expect(sandboxes[0]).toMatchObject({ name: "vm-1", address: "127.0.1.1", directory: join(root, "one") });
  });

  test("runs programs with their output, errors and exit codes", async () => {
    const script = "echo out; echo err >&2; pwd; hostname; exit 7";
    expect(await sandbox("one", "exec", "--", "sh", "-c", script)).toEqual({
      exitCode: 7,
      stdout: "out\n/workspace\nvm-1\n",
      stderr: "err\n",
    });
    expect(await sandbox("one", "exec", "--", "sh", "-c", "kill -TERM $$")).toMatchObject({ exitCode: 143 });
    const missing = await sandbox("one", "exec", "--", "no-such-program");
    expect(missing.exitCode).toBe(1);
    expect(missing.stderr).toContain("expected the guest to start no-such-program, got ENOENT");
  });

  test("shows the project at /workspace, without its secrets, and what is changed there on either side", async () => {
    await writeFile(join(root, "one", "from-host"), "host\n");
    await writeFile(join(root, "one", ".env"), "SECRET=1\n");
    const { stdout } = await sandbox("one", "exec", "--", "sh", "-c", "ls -A; cat from-host; echo guest > from-guest");
    expect(stdout).toBe("from-host\nhost\n");
    expect(await readFile(join(root, "one", "from-guest"), "utf8")).toBe("guest\n");
    await writeFile(join(root, "one", "from-host"), "host again\n");
    await expect.poll(async () => (await sandbox("one", "exec", "--", "cat", "from-host")).stdout).toBe("host again\n");
  });

  test("has no way out", async () => {
    const { stdout } = await sandbox("one", "exec", "--", "ls", "/sys/class/net");
    expect(stdout).toBe("lo\n");
  });

  test("shows what listens inside at an address of its own, as long as it does", async () => {
    expect(await start("other")).toBe("vm-2 127.0.1.2\n");
    const servers = ["one", "other"].map((project) => {
      const program = listening("127.0.0.1", 3000, `of ${project}`);
      const argv = [BIN, "exec", "--", "perl", "-e", program];
      return spawn(process.execPath, argv, { cwd: join(root, project), env, stdio: ["ignore", "pipe", "inherit"] });
    });
    await Promise.all(servers.map(({ stdout }) => once(stdout, "data")));
    await expect.poll(() => heard("127.0.1.1", 3000), { timeout: 20_000 }).toBe("of one");
    await expect.poll(() => heard("127.0.1.2", 3000), { timeout: 20_000 }).toBe("of other");
    expect((await sandbox("other", "url", "3000")).stdout).toBe("http://127.0.1.2:3000\n");
    for (const server of servers) {
      server.kill("SIGTERM");
      await once(server, "close");
    }
    await expect.poll(() => heard("127.0.1.1", 3000), { timeout: 20_000 }).toBeUndefined();
  });

  test("says what it does not have", async () => {
    const { exitCode, stderr } = await sandbox("one", "stop", "vm-9");
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("expected vm-9 to run, got vm-1, vm-2")]);
    expect((await sandbox("one", "start", "vm-01")).stderr).toContain('expected a sandbox such as vm-1, got "vm-01"');
    expect((await sandbox("one", "start", "--memory", "lots")).exitCode).toBe(2);
  });

  test("forgets one whose supervisor was killed, and gives its name away again", async () => {
    const { sandboxes } = await list();
    const { pid = 0 } = sandboxes.find(({ name }) => name === "vm-1") ?? {};
    process.kill(pid, "SIGKILL");
    await expect.poll(async () => (await list()).sandboxes.map(({ name }) => name)).toEqual(["vm-2"]);
    expect(await start("one")).toBe("vm-1 127.0.1.1\n");
  });

  test("ends without leaving anything that runs", async () => {
    const { sandboxes } = await list();
    for (const project of ["one", "other"]) expect((await sandbox(project, "stop")).exitCode).toBe(0);
    expect(await list()).toMatchObject({ sandboxes: [] });
    // Whoever has adopted them takes note of their end, too.
    for (const { pid } of sandboxes) await expect.poll(() => isThere(pid)).toBe(false);
    expect(await readFile(join(root, "state/leveret/sandbox/vm-1/log"), "utf8")).toBe("ended: host-qmp-quit\n");
  });
});
