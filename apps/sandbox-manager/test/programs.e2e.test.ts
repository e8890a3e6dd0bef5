import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listSandboxes, type Sandbox, startSandbox } from "../src/index.ts";
import { BIN, makeRoot } from "./command.ts";

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
