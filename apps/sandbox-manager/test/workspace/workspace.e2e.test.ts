import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeCpio, type Machine, startMachine, type Template } from "@leveret/qemu-harness";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { busybox, debianKernel, missingKernel } from "../../../../packages/qemu-harness/test/kernel.ts";
import { missingOracles, titled } from "../../../../packages/qemu-harness/test/oracles.ts";
import { serveWorkspace, type Workspace, type WorkspaceState } from "../../src/workspace/index.ts";
import { WORKSPACE_PROGRAM } from "../../src/workspace-program.ts";

const missing = missingOracles() || missingKernel() || (existsSync(WORKSPACE_PROGRAM) ? "" : "no program for guests");
const outer = mkdtempSync(join(tmpdir(), "workspace-e2e-"));
afterAll(() => rmSync(outer, { recursive: true }));

const PORT = "workspace";
const WAIT = { timeout: 60_000, interval: 200 };

/** An initrd of busybox; what a test needs the agent starts. */
function writeInitrd(): string {
  const init = "#!/bin/busybox sh\nexec /bin/busybox sleep 1000000\n";
  const path = join(outer, "initrd");
  writeFileSync(path, encodeCpio([busybox(), { path: "init", data: Buffer.from(init), executable: true }], 0));
  return path;
}

describe.skipIf(missing !== "")(titled("a workspace", missing), () => {
  let template: Template;
  let state: WorkspaceState;
  let shellPid: number;

  // One boot for all. It is mounted, and a shell works in it, when the template is taken.
  beforeAll(async () => {
    const first = join(outer, "first");
    mkdirSync(join(first, "sub"), { recursive: true });
    writeFileSync(join(first, "sub", "which"), "first");
    const boot = {
      type: "linux",
      kernelPath: debianKernel() ?? "",
      initrdPath: writeInitrd(),
      commandLine: "console=ttyS0",
      fast: true,
    } as const;
    const machine = await startMachine(
      {
        memoryMiB: 256,
        boot,
        consoles: [
          { name: "serial0", type: "serial" },
          { name: PORT, type: "port" },
        ],
        agent: true,
        forkable: true,
      },
      { accelerator: "tcg" },
    );
    await machine.agent.ready({ timeoutMs: 600_000 });
    await machine.agent.writeFile("/mounter", readFileSync(WORKSPACE_PROGRAM), { mode: 0o755 });
    const workspace = await serveWorkspace(machine.port(PORT), { directory: first });
    const script = `/bin/busybox mkdir -p /workspace /tmp && /mounter /workspace ${PORT}`;
    expect(await machine.agent.exec(["busybox", "sh", "-c", script])).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    const shell = await machine.agent.spawn([
      "busybox",
      "sh",
      "-c",
      "cd /workspace/sub; cat which; busybox sleep 100000",
    ]);
    shellPid = shell.pid;
    expect(await run(machine, "cat sub/which")).toBe("first");
    state = await workspace.pause();
    template = await machine.template();
    workspace.close();
  }, 900_000);
  afterAll(() => template?.close());

  /** A fork that sees a directory of its own. */
  async function fork(name: string, prepare: (directory: string) => void = () => {}): Promise<Guest> {
    const directory = join(outer, name);
    mkdirSync(directory);
    prepare(directory);
    const machine = await template.fork();
    const workspace = await serveWorkspace(machine.port(PORT), { directory, state });
    return { machine, workspace, directory, [Symbol.asyncDispose]: () => machine.close() };
  }

  interface Guest extends AsyncDisposable {
    readonly machine: Machine;
    readonly workspace: Workspace;
    readonly directory: string;
  }

  /** Runs a script in the workspace; what it says on its standard error is part of what it says. */
  async function run(machine: Machine, script: string): Promise<string> {
    const all = `for a in $(busybox --list); do alias $a="busybox $a"; done 2>/dev/null; cd /workspace; ${script}`;
    const options = { timeoutMs: 250_000 };
    const { stdout, stderr } = await machine.agent.exec(["busybox", "sh", "-c", `exec 2>&1; ${all}`], options);
    return stdout + stderr;
  }

  test("shows every fork of one template a directory of its own", async () => {
    await using one = await fork("one", (directory) => {
      mkdirSync(join(directory, "sub"));
      writeFileSync(join(directory, "sub", "which"), "one");
      writeFileSync(join(directory, ".env"), "SECRET");
    });
    await using other = await fork("other", (directory) => writeFileSync(join(directory, "which"), "other"));
    expect(await run(one.machine, "cat sub/which; ls -A; cat .env")).toMatch(/^onesub\ncat: .*No such file/);
    expect(await run(other.machine, "cat which; ls -A")).toBe("otherwhich\n");
    // The shell that was in the directory when the template was taken is in the new one.
    expect(await run(one.machine, `cat /proc/${shellPid}/cwd/which`)).toBe("one");
  });

  test("lets the guest create, edit, rename, link and delete", async () => {
    await using guest = await fork("edits");
    const { machine, directory } = guest;
    const script = [
      "mkdir -p a/b && echo one > a/b/file && echo two >> a/b/file && chmod 750 a/b/file",
      "ln -s b/file a/link && ln a/b/file hard && cat a/link hard",
      "mv a/b/file moved && mv a c && rm hard && stat -c '%a %s %h %u' moved",
      "(sleep 1; cat) < moved & rm moved; wait",
      "touch -d @1000000000 old && stat -c %Y old; rm -r c; ls",
    ];
    expect(await run(machine, script.join("\n"))).toBe("one\ntwo\none\ntwo\n750 8 1 0\none\ntwo\n1000000000\nold\n");
    expect(readdirSync(directory)).toEqual(["old"]);
    expect(statSync(join(directory, "old")).mtimeMs).toBe(1e12);
    await run(machine, "ln -s /etc/passwd link; cat link; mkfifo pipe");
    expect(readlinkSync(join(directory, "link"))).toBe("/etc/passwd");
    expect(existsSync(join(directory, "pipe"))).toBe(false);
  });

  test("carries big files in both directions byte for byte", async () => {
    const bytes = randomBytes(20 * 1024 * 1024 + 12_345);
    const digest = createHash("sha256").update(bytes).digest("hex");
    await using guest = await fork("big", (directory) => writeFileSync(join(directory, "in"), bytes));
    const said = await run(
      guest.machine,
      "sha256sum in; cp in out; dd if=in of=pieces bs=777 count=1000 2>/dev/null; sync",
    );
    expect(said).toBe(`${digest}  in\n`);
    expect(readFileSync(join(guest.directory, "out")).equals(bytes)).toBe(true);
    expect(readFileSync(join(guest.directory, "pieces")).equals(bytes.subarray(0, 777_000))).toBe(true);
  });

  test("shows the guest what the host edits, makes and removes", async () => {
    await using guest = await fork("host", (directory) => writeFileSync(join(directory, "a"), "1"));
    const { machine, directory } = guest;
    expect(await run(machine, "cat a; cat b; ls")).toMatch(/^1cat: .*b'?: No such file or directory\na\n$/);
    writeFileSync(join(directory, "a"), "12");
    writeFileSync(join(directory, "b"), "new");
    await expect.poll(() => run(machine, "cat a b; ls"), WAIT).toBe("12newa\nb\n");
    rmSync(join(directory, "b"));
    writeFileSync(join(directory, "a"), "3");
    await expect.poll(() => run(machine, "cat a; ls"), WAIT).toBe("3a\n");
  });

  test("has many files, and deletes them", async () => {
    await using guest = await fork("many", (directory) => {
      for (let index = 0; index < 2000; index++) {
        const sub = join(directory, `d${index % 20}`);
        mkdirSync(sub, { recursive: true });
        writeFileSync(join(sub, `f${index}`), String(index));
      }
    });
    expect(await run(guest.machine, "find . -type f | xargs cat | wc -c; find . | wc -l")).toBe("6890\n2021\n");
    expect(await run(guest.machine, "rm -r d1 d2; find . -type f | wc -l")).toBe("1800\n");
    expect(readdirSync(guest.directory)).toHaveLength(18);
  });
});
