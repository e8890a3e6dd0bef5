import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listSandboxes, race, type Sandbox, startSandbox } from "../src/index.ts";
import { BIN, makeRoot, type Run, runCommand } from "./command.ts";
import { heard, listening } from "./listener.ts";

let root = "";
let env: NodeJS.ProcessEnv;
let project = "";

beforeAll(async () => {
  ({ root, env } = await makeRoot());
  project = join(root, "project");
  await mkdir(project);
  await writeFile(join(project, "readme"), "of the project\n");
});
afterAll(async () => {
  for (const sandbox of await listSandboxes({ env })) await sandbox.stop();
  await rm(root, { recursive: true, force: true });
});

const start = async (): Promise<Sandbox> =>
  startSandbox({ directory: project, image: join(root, "guest"), memoryMiB: 512, env });

describe("a program", () => {
  test("runs lines of a shell, takes what they say as it comes, and ends them", async () => {
    await using vm = await start();
    const odd = 'it\'s $HOME; "a" `b`';
    expect(await vm.$`printf %s ${odd}; echo also >&2`).toEqual({ stdout: odd, stderr: "also\n" });
    const lines: string[] = [];
    for await (const line of vm.$`echo one; printf 'two\nthree'`) lines.push(line);
    expect(lines).toEqual(["one", "two", "three"]);
    await expect(vm.$`echo why >&2; exit 7`).rejects.toMatchObject({
      code: "SANDBOX_COMMAND_FAILED",
      message: expect.stringMatching(/exit code 7: why$/),
    });
    const failing = async (): Promise<void> => {
      for await (const _ of vm.$`echo one; exit 3`);
    };
    await expect(failing()).rejects.toMatchObject({ code: "SANDBOX_COMMAND_FAILED" });

    // What nobody takes is not said: it is held back until it is asked for, and ends when nobody wants it any more.
    let taken = 0;
    for await (const _ of vm.$`echo $$ > /run/counting; exec seq 1 100000000`) {
      taken += 1;
      if (taken === 1000) break;
    }
    await vm.$`while kill -0 $(cat /run/counting) 2>&-; do sleep 0.1; done`;
    const abort = new AbortController();
    const $ = vm.command({ cwd: "/", env: { WORD: "given" }, signal: abort.signal });
    expect((await $`pwd; echo $WORD`).stdout).toBe("/\ngiven\n");
    const endless = $`echo $$ > /run/endless; echo begun; sleep 1000`;
    const untilAborted = async (): Promise<void> => {
      for await (const _ of endless) abort.abort(new Error("enough"));
    };
    await expect(untilAborted()).rejects.toThrow("enough");
    await vm.$`while kill -0 $(cat /run/endless) 2>&-; do sleep 0.1; done`;
    await expect($`true`).rejects.toThrow("enough");
  });

  test("reads and writes files, in whole or not at all", async () => {
    await using vm = await start();
    const bytes = Uint8Array.from({ length: 3_000_000 }, (_, index) => (index * 7) % 256);
    await vm.files.write("/root/a dir/-odd 'name'", bytes, { mode: 0o750 });
    expect(Buffer.from(await vm.files.read("/root/a dir/-odd 'name'")).equals(bytes)).toBe(true);
    expect((await vm.$`stat -c %a ${"/root/a dir/-odd 'name'"}; ls ${"/root/a dir"}`).stdout).toBe(
      "750\n-odd 'name'\n",
    );
    await vm.files.write("new/file", "in the workspace\n");
    expect(await readFile(join(project, "new/file"), "utf8")).toBe("in the workspace\n");
    expect(await vm.files.readText("readme")).toBe("of the project\n");
    await expect(vm.files.read("nothing")).rejects.toMatchObject({ code: "SANDBOX_FILE" });
    await expect(vm.files.read("/dev/zero", { maxBytes: 100_000 })).rejects.toMatchObject({
      code: "SANDBOX_OUTPUT_LIMIT",
    });
    // A program that ends before it has read all that there is for it.
    for (const content of ["", bytes]) {
      await expect(vm.files.write("readme/below", content)).rejects.toMatchObject({ code: "SANDBOX_FILE" });
    }
    await expect(vm.files.write("", "")).rejects.toMatchObject({ code: "SANDBOX_BAD_OPTIONS" });
    await expect(vm.files.write("/dev/full/x", "")).rejects.toMatchObject({ code: "SANDBOX_FILE" });
  });
});

describe("cp", () => {
  test("copies files and directories in and out, all or nothing", async () => {
    await using vm = await start();
    const cp = async (...argv: string[]): Promise<Run> => runCommand(["cp", ...argv], { cwd: project, env }).end;
    const tree = join(root, "tree");
    await mkdir(join(tree, "-d"), { recursive: true });
    await writeFile(join(tree, "-d", "big"), Buffer.alloc(3_000_000, "x"));
    await symlink("big", join(tree, "-d", "link"));
    await chmod(join(tree, "-d", "big"), 0o640);
    expect(await cp(tree, ":/srv/new/tree")).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    expect((await cp(tree, `${vm.name}:/srv`)).exitCode).toBe(0);
    expect((await vm.$`cd /srv && ls -A . new && stat -c '%s %a %U' tree/-d/big && readlink tree/-d/link`).stdout).toBe(
      ".:\nnew\ntree\n\nnew:\ntree\n3000000 640 root\nbig\n",
    );
    expect(await cp(tree, ":/srv")).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/not empty/) });
    expect((await vm.$`ls -A /srv`).stdout).toBe("new\ntree\n");

    const out = join(root, "out");
    expect((await cp(":/srv/tree/-d", out)).exitCode).toBe(0);
    expect(await readdir(out)).toEqual(["big", "link"]);
    expect((await stat(join(out, "big"))).size).toBe(3_000_000);
    expect((await cp(":readme", out)).exitCode).toBe(0);
    expect(await readFile(join(out, "readme"), "utf8")).toBe("of the project\n");
    await vm.$`mkdir -p /srv/bad/sub && mkfifo /srv/bad/sub/fifo && install -m 6755 /bin/true /srv/suid`;
    expect(await cp(":/srv/bad", out)).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/got something else/),
    });
    expect((await cp(":/srv/suid", out)).exitCode).toBe(0);
    expect((await stat(join(out, "suid"))).mode & 0o7000).toBe(0);
    expect(await cp(":/srv/nothing", out)).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/nothing/) });
    expect(await cp(join(root, "nothing"), ":/srv")).toMatchObject({ exitCode: 1 });
    // A guest that is hostile: its tar leads out of the place by a link.
    await vm.files.write(
      "/usr/local/bin/tar",
      `#!/usr/bin/python3
import io, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
link = tarfile.TarInfo("evil"); link.type = tarfile.SYMTYPE; link.linkname = ${JSON.stringify(out)}
out.addfile(link)
file = tarfile.TarInfo("evil/planted"); file.size = 3
out.addfile(file, io.BytesIO(b"bad"))
up = tarfile.TarInfo("../planted"); up.size = 3
out.addfile(up, io.BytesIO(b"bad"))
out.close()
`,
      { mode: 0o755 },
    );
    expect((await cp(":/srv/evil", join(root, "taken"))).exitCode).toBe(1);
    expect((await readdir(out)).sort()).toEqual(["big", "link", "readme", "suid"]);
    for (const name of await readdir(root)) expect(name).not.toMatch(/^\.copy-|planted|taken/);

    expect((await cp("a", "b")).exitCode).toBe(2);
    expect((await cp(":a", ":b")).exitCode).toBe(2);
  });
});

describe("a race", () => {
  test("keeps the copy that is best, or first, and ends the others", async () => {
    const options = {
      directory: project,
      image: join(root, "guest"),
      memoryMiB: 512,
      env,
      workspace: "isolated",
    } as const;
    await using vm = await startSandbox(options);
    const argv = ["/bin/sh", "-c", "echo tried $RACE_NUMBER; echo $RACE_NUMBER > result; test $RACE_NUMBER != 3"];
    const { winner, runs } = await race(vm, { count: 3, argv, judge: "echo points: $(cat result)0.5" });
    expect(runs).toMatchObject([
      { exitCode: 0, output: "tried 1\n", score: 10.5 },
      { exitCode: 0, output: "tried 2\n", score: 20.5 },
      { exitCode: 1, output: "tried 3\n" },
    ]);
    expect(winner?.name).toBe(runs[1]?.name);
    expect(await winner?.files.readText("result")).toBe("2\n");
    const names = async (): Promise<string[]> => (await listSandboxes({ env })).map(({ name }) => name);
    expect(await names()).toEqual([vm.name, winner?.name]);
    await winner?.stop();

    const first = await race(vm, { count: 2, argv: ["/bin/sh", "-c", "test $RACE_NUMBER = 2 || sleep 1000"] });
    expect(first).toMatchObject({
      winner: { name: first.runs[1]?.name },
      runs: [{ error: "another one was first" }, {}],
    });
    await first.winner?.stop();
    expect(await race(vm, { count: 1, argv: ["false"] })).toMatchObject({ winner: undefined, runs: [{ exitCode: 1 }] });
    const called = race(vm, { count: 1, argv: ["sleep", "1000"], signal: AbortSignal.timeout(1000) });
    await expect(called).rejects.toMatchObject({ name: "TimeoutError" });
    expect(await names()).toEqual([vm.name]);
  });
});

describe("ten machines of one project", () => {
  test("listen on the same ports, side by side", async () => {
    const options = { directory: project, image: join(root, "guest"), memoryMiB: 512, env, another: true };
    const machines = await Promise.all(Array.from({ length: 10 }, () => startSandbox(options)));
    try {
      for (const vm of machines) {
        const server = (port: number): string => listening("0.0.0.0", port, `${port} of ${vm.name}`);
        const [web, database] = [3000, 5432].map((port) => vm.$`exec perl -e ${server(port)}`);
        // They begin at once, and end with their machines.
        web?.then(undefined, () => {});
        database?.then(undefined, () => {});
      }
      for (const { address, name } of machines) {
        for (const port of [3000, 5432]) {
          await expect.poll(() => heard(address, port), { timeout: 60_000 }).toBe(`${port} of ${name}`);
        }
      }
      expect(new Set(machines.map(({ address }) => address)).size).toBe(10);
    } finally {
      await Promise.all(machines.map((vm) => vm.stop()));
    }
  });
});

describe("a model", () => {
  test("has the machines of one project, and nothing of the host", async () => {
    const client = new Client({ name: "test", version: "1" });
    const args = [BIN, "mcp", "--image", join(root, "guest"), "--memory", "512"];
    const variables = Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => !!entry[1]));
    await client.connect(new StdioClientTransport({ command: process.execPath, args, cwd: project, env: variables }));
    const call = async (
      name: string,
      given: Record<string, unknown> = {},
    ): Promise<{ text: string; failed: boolean }> => {
      const { content, isError } = await client.callTool({ name, arguments: given });
      const [first] = content as { text: string }[];
      return { text: first?.text ?? "", failed: isError === true };
    };
    const json = async (name: string, given?: Record<string, unknown>): Promise<unknown> =>
      JSON.parse((await call(name, given)).text);
    await using live = await start();
    try {
      const { tools } = await client.listTools();
      expect(tools.map(({ name }) => name)).toEqual(
        "start list exec read_file write_file ports network_log fork checkpoint rewind diff stop".split(" "),
      );
      // One that is live is not its business.
      expect(await json("exec", { command: "true", name: live.name })).toMatchObject({
        error: { code: "SANDBOX_NOT_FOUND" },
      });
      expect(await json("start")).toMatchObject({ name: "vm-2", workspace: "isolated" });
      expect(await json("exec", { command: "pwd; cat readme; exit 3" })).toEqual({
        exitCode: 3,
        timedOut: false,
        stdout: "/workspace\nof the project\n",
        stderr: "",
      });
      expect(await json("exec", { command: "echo begun; sleep 1000", timeoutSeconds: 1 })).toEqual({
        timedOut: true,
        stdout: "begun\n",
        stderr: "",
      });
      expect(await json("exec", { command: "yes | head -c 3000000" })).toMatchObject({
        stdout: expect.stringMatching(/^y\n[\s\S]*characters left out …\][\s\S]*y\n$/),
      });
      expect((await call("write_file", { path: "src/new", content: "by a model\n" })).failed).toBe(false);
      expect((await call("read_file", { path: "src/new" })).text).toBe("by a model\n");
      expect(await call("read_file", { path: "/bin/true" })).toMatchObject({ failed: true });
      expect((await call("diff")).text).toContain("+by a model");
      expect(await json("list")).toEqual([{ name: "vm-2", address: "127.0.1.2", workspace: "isolated" }]);
      expect(await json("stop")).toMatchObject({ error: { code: "SANDBOX_UNAPPLIED" } });
      expect((await call("stop", { discard: true })).text).toBe("vm-2 has ended");
      await expect(readFile(join(project, "src/new"))).rejects.toMatchObject({ code: "ENOENT" });
    } finally {
      await client.close();
    }
  });
});
