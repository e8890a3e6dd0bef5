import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findSandbox } from "../src/index.ts";
import { BIN, makeRoot, type Run, runCommand } from "./command.ts";
import { heard, listening } from "./listener.ts";

let root = "";
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  ({ root, env } = await makeRoot());
  for (const name of ["one", "other"]) await mkdir(join(root, name));
});
afterAll(async () => {
  for (const { name } of (await list()).sandboxes) await sandbox("one", "stop", "--discard", name);
  await rm(root, { recursive: true, force: true });
});

/** Runs the built command in a project. */
async function sandbox(project: string, ...argv: string[]): Promise<Run> {
  return runCommand(argv, { cwd: join(root, project), env }).end;
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

async function list(): Promise<{ sandboxes: { name: string; address: string; directory: string; pid: number }[] }> {
  const { stdout } = await sandbox("one", "ls", "--json");
  return JSON.parse(stdout);
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

// In this order: each needs what the ones before it made.
describe("leveret-sandbox", () => {
  test("starts a machine for a project, and finds it again", async () => {
    const both = await Promise.all([start("one"), start("one")]);
    expect(both).toEqual(["vm-1 127.0.1.1\n", "vm-1 127.0.1.1\n"]);
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

  test("ends programs that say too much, or that nobody waits for any more", async () => {
    const vm = await findSandbox("vm-1", { env });
    await expect(vm.exec(["yes"], { maxOutputBytes: 1000 })).rejects.toMatchObject({ code: "SANDBOX_OUTPUT_LIMIT" });
    const signal = AbortSignal.timeout(500);
    await expect(vm.exec(["sleep", "1000"], { signal })).rejects.toMatchObject({ name: "TimeoutError" });
    const running = async (): Promise<string> => (await vm.exec(["sh", "-c", "cat /proc/[0-9]*/comm"])).stdout;
    await expect.poll(running).not.toMatch(/^(?:yes|sleep)$/m);
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

  test("wakes programs that watch files when the host edits them", async () => {
    await writeFile(join(root, "one", "watched"), "1");
    // inotify_init, and inotify_add_watch for IN_MODIFY, IN_ATTRIB and IN_CREATE.
    const watcher = `$| = 1; my $fd = syscall(253); my $path = "/workspace/watched"; syscall(254, $fd, $path, 0x106) >= 0 or die $!;
      print "watches\\n"; open(my $in, "<&=", $fd); sysread($in, my $event, 4096); print "woken\\n";`;
    const argv = [BIN, "exec", "--", "perl", "-e", watcher];
    const program = spawn(process.execPath, argv, {
      cwd: join(root, "one"),
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const output = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
    expect((await output.next()).value).toBe("watches");
    await writeFile(join(root, "one", "watched"), "2");
    expect((await output.next()).value).toBe("woken");
  });

  test("has no way out", async () => {
    const connect = "use IO::Socket::INET; IO::Socket::INET->new(shift) or print $!";
    const { stdout } = await sandbox("one", "exec", "--", "perl", "-e", connect, "192.0.2.1:22");
    expect(stdout).toBe("Connection refused");
    expect((await sandbox("one", "net", "rules")).stdout).toBe('{\n  "allow": [],\n  "deny": []\n}\n');
  });

  test("shows what listens inside at an address of its own, as long as it does", async () => {
    expect(await start("other")).toBe("vm-2 127.0.1.2\n");
    const servers = ["one", "other"].map((project) => {
      const program = listening("127.0.0.1", 3000, `of ${project}`);
      const argv = [BIN, "exec", "--", "perl", "-e", program];
      return spawn(process.execPath, argv, { cwd: join(root, project), env, stdio: ["ignore", "pipe", "inherit"] });
    });
    await Promise.all(servers.map(({ stdout }) => once(stdout, "data")));
    await expect.poll(() => heard("127.0.1.1", 3000)).toBe("of one");
    await expect.poll(() => heard("127.0.1.2", 3000)).toBe("of other");
    expect((await sandbox("one", "ports")).stdout).toBe("PORT  URL\n3000  http://127.0.1.1:3000\n");
    expect((await sandbox("other", "url", "3000")).stdout).toBe("http://127.0.1.2:3000\n");
    for (const server of servers) {
      server.kill("SIGTERM");
      await once(server, "close");
    }
    await expect.poll(() => heard("127.0.1.1", 3000)).toBeUndefined();
  });

  test("keeps the changes of an isolated workspace apart, until they are wanted", async () => {
    const project = join(root, "isolated");
    await mkdir(join(project, ".git", "hooks"), { recursive: true });
    await mkdir(join(project, "src"));
    await writeFile(join(project, "src", "a"), "1\n");
    await writeFile(join(project, "src", "b"), "b\n");
    const isolated = (...argv: string[]): Promise<Run> => sandbox("isolated", ...argv);
    const run = (script: string): Promise<Run> => isolated("exec", "--", "sh", "-c", script);
    const started = await isolated("start", "--isolated", "--image", join(root, "guest"), "--memory", "512");
    expect(started.stderr).toBe("");

    const script =
      "cat src/a; echo 2 >> src/a; rm src/b; echo new > c; echo evil > .git/hooks/post-checkout; mkdir node_modules; echo x > node_modules/x";
    expect(await run(script)).toMatchObject({ exitCode: 0, stdout: "1\n" });
    expect(await readFile(join(project, "src", "a"), "utf8")).toBe("1\n");
    const { stdout: patch, stderr } = await isolated("diff");
    expect(patch).toContain("@@ -1 +1,2 @@\n 1\n+2\n");
    expect(patch).not.toContain("node_modules");
    expect(stderr).toContain(".git/hooks: git runs it, or is led by it");

    // Whoever is root inside takes the layer away, and finds that what is below it is not his.
    const below = await run("umount -l /workspace; cd /workspace && cat src/a && echo 3 > src/a");
    expect(below).toMatchObject({
      exitCode: 2,
      stdout: "1\n",
      stderr: expect.stringContaining("Read-only file system"),
    });

    expect(await isolated("apply")).toMatchObject({ exitCode: 0, stdout: "A c\nM src/a\nD src/b\n" });
    expect(await readFile(join(project, "src", "a"), "utf8")).toBe("1\n2\n");
    await expect(readFile(join(project, "src", "b"))).rejects.toMatchObject({ code: "ENOENT" });
    expect(await readdir(join(project, ".git", "hooks"))).toEqual([]);
    expect((await isolated("diff", "--stat")).stdout).toBe("A .git/hooks/post-checkout\n");
    expect((await isolated("diff")).stdout).toBe("");

    const unapplied = await isolated("stop");
    expect([unapplied.exitCode, unapplied.stderr]).toEqual([1, expect.stringContaining("SANDBOX_UNAPPLIED")]);
    expect((await isolated("stop", "--discard")).exitCode).toBe(0);
  });

  test("lets the project change below an isolated workspace, and brings nothing back over that unasked", async () => {
    const project = join(root, "isolated");
    const isolated = (...argv: string[]): Promise<Run> => sandbox("isolated", ...argv);
    const run = async (script: string): Promise<string> => (await isolated("exec", "--", "sh", "-c", script)).stdout;
    await isolated("start", "--isolated", "--image", join(root, "guest"), "--memory", "512");
    expect(await run("cat src/a c; echo guest >> src/a; ls")).toBe("1\n2\nnew\nc\nsrc\n");
    await writeFile(join(project, "new-c"), "replaced\n");
    await rename(join(project, "new-c"), join(project, "c"));
    await writeFile(join(project, "src", "a"), "host\n");
    await expect.poll(() => run("cat src/a c")).toBe("1\n2\nguest\nreplaced\n");
    expect((await isolated("diff", "--stat")).stdout).toBe("M src/a\n");
    expect(await isolated("apply")).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("SANDBOX_CONFLICT") });
    expect(await readFile(join(project, "src", "a"), "utf8")).toBe("host\n");
    expect((await isolated("apply", "--force")).stdout).toBe("M src/a\n");
    expect(await run("echo more >> src/a; cat src/a")).toBe("1\n2\nguest\nmore\n");
    // What we have brought back ourselves is no change of the project.
    expect((await isolated("apply")).stdout).toBe("M src/a\n");
    expect(await readFile(join(project, "src", "a"), "utf8")).toBe("1\n2\nguest\nmore\n");
    // From below its directory, too, with paths as they are there.
    await run("mkdir src/deep; echo 1 > src/deep/x; echo 2 > src/y");
    await mkdir(join(project, "src", "deep"));
    const inside = (...argv: string[]): Promise<Run> => sandbox("isolated/src", ...argv);
    expect((await inside("exec", "--", "sh", "-c", "pwd; cat deep/x")).stdout).toBe("/workspace/src\n1\n");
    expect((await inside("diff", "--stat", "deep")).stdout).toBe("A src/deep/x\n");
    expect((await inside("apply", "deep/x")).stdout).toBe("A src/deep/x\n");
    expect((await isolated("apply")).stdout).toBe("A src/y\n");
    expect(await isolated("stop")).toMatchObject({ exitCode: 0, stderr: "" });
  });

  test("is copied, and taken back, with its memory, its programs and its workspace", async () => {
    await mkdir(join(root, "copied"));
    await writeFile(join(root, "copied", "file"), "project\n");
    const copied = (...argv: string[]): Promise<Run> => sandbox("copied", ...argv);
    const run = async (name: string, script: string): Promise<string> =>
      (await copied("exec", "-n", name, "--", "sh", "-c", script)).stdout;
    const { stdout } = await copied("start", "--isolated", "--image", join(root, "guest"), "--memory", "512");
    const [name = ""] = stdout.split(" ");
    // A program that lives on, and has its state in nothing but memory.
    const server = listening("127.0.0.1", 4000, "of the first");
    await run(name, `echo 1 > file; nohup perl -e '${server}' >/tmp/log 2>&1 </dev/null & sleep 1`);
    expect(await copied("checkpoint")).toMatchObject({ exitCode: 0, stdout: "1\n" });
    await run(name, "echo 2 > file; echo more > another");

    const forked = await copied("fork", name, "-n", "2", "--json");
    const { forks } = JSON.parse(forked.stdout) as { forks: { sandbox: { name: string; address: string } }[] };
    const names = forks.map(({ sandbox: { name: each } }) => each);
    expect(new Set([name, ...names]).size).toBe(3);
    for (const each of forks) await run(each.sandbox.name, `echo ${each.sandbox.name} >> file`);
    for (const each of [name, ...names]) {
      const lines = each === name ? "2\n" : `2\n${each}\n`;
      expect(await run(each, "cat file another; hostname")).toBe(`${lines}more\n${each}\n`);
    }
    for (const { sandbox: each } of forks) {
      await expect.poll(() => heard(each.address, 4000)).toBe("of the first");
    }
    const ids = await Promise.all([name, ...names].map((each) => run(each, "cat /etc/machine-id")));
    expect(new Set(ids).size).toBe(3);
    expect((await copied("diff", "-n", names[0] ?? "", "--stat")).stdout).toBe("A another\nM file\n");
    for (const each of names) await copied("stop", "--discard", each);

    expect(await copied("rewind", "9")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("SANDBOX_NOT_FOUND"),
    });
    expect((await copied("rewind", "1")).stdout).toBe(`${name} is what it was at 1\n`);
    expect(await run(name, "cat file; ls")).toBe("1\nfile\n");
    await expect.poll(() => heard("127.0.1.1", 4000)).toBeUndefined();
    const { sandboxes } = await list();
    const address = sandboxes.find((each) => each.name === name)?.address ?? "";
    await expect.poll(() => heard(address, 4000)).toBe("of the first");
    expect((await copied("checkpoint", "--list")).stdout).toMatch(/^ID {2}MADE\n1 {3}\d{4}-/);
    expect(await readFile(join(root, "copied", "file"), "utf8")).toBe("project\n");
    expect((await copied("checkpoint", "--remove", "1")).exitCode).toBe(0);
    expect((await copied("checkpoint", "--list")).stdout).toBe(`${name} has no checkpoints\n`);
    await copied("stop", "--discard");
    expect(await sandbox("one", "checkpoint")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("isolated"),
    });
  });

  test("says what it does not have", async () => {
    const { exitCode, stderr } = await sandbox("one", "stop", "vm-9");
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("expected vm-9 to run, got vm-1, vm-2")]);
    expect((await sandbox("one", "start", "vm-01")).stderr).toContain('expected a sandbox such as vm-1, got "vm-01"');
    expect((await sandbox("one", "start", "--memory", "lots")).exitCode).toBe(2);
    const other = await sandbox("one", "start", "--memory", "2048");
    expect([other.exitCode, other.stderr]).toEqual([1, expect.stringContaining("it runs with 512")]);
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
    await writeFile(join(root, "state/leveret/sandbox/vm-1/console"), "hello\u001b[2J\n");
    expect((await sandbox("one", "logs", "vm-1")).stdout).toBe("hello\\x1b[2J\nended: host-qmp-quit\n");
    expect((await sandbox("one", "logs", "vm-200")).stderr).toContain("SANDBOX_NOT_FOUND");
  });

  test("removes what is left of those that have ended", async () => {
    const { stdout } = await sandbox("one", "prune", "--dry-run", "--json");
    const { transcripts } = JSON.parse(stdout) as { transcripts: { name: string }[] };
    expect(transcripts.map(({ name }) => name)).toContain("vm-1");
    const { exitCode, stdout: found } = await sandbox("one", "doctor");
    expect([exitCode, found]).toEqual([0, expect.stringMatching(/^✓ {2}QEMU +\d+\.\d+/m)]);
    expect((await sandbox("one", "prune")).stdout).toContain("removed what vm-1 has said");
    expect((await sandbox("one", "logs", "vm-1")).stderr).toContain("SANDBOX_NOT_FOUND");
  });
});
