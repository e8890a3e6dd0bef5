import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { missingOracles, titled } from "./oracles.ts";
import { toyKernel } from "./toy-kernel.ts";

// The built command, as people run it.
const COMMAND = fileURLToPath(new URL("../bin/qemu-harness.js", import.meta.url));
const missing = missingOracles();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-command-"));

beforeAll(() => {
  if (!existsSync(fileURLToPath(new URL("../dist/cli.js", import.meta.url))))
    throw new Error("build the package first");
  writeFileSync(join(directory, "toy"), toyKernel());
  const boot = { type: "kernel", kernelPath: "toy", commandLine: "hello" };
  writeFileSync(join(directory, "machine.json"), JSON.stringify({ memoryMiB: 32, boot }));
});
afterAll(() => rmSync(directory, { recursive: true }));

function run(...argv: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, LEVERET_TEMPLATES: join(directory, "templates") };
  return spawnSync(process.execPath, [COMMAND, ...argv], { cwd: directory, env, encoding: "utf8", timeout: 60_000 });
}

describe("usage", () => {
  test.for([
    ["main"],
    ["probe"],
    ["run"],
    ["qmp"],
    ["template"],
    ["template make"],
    ["template list"],
    ["template run"],
    ["template remove"],
  ])("help of %s", async ([command = ""]) => {
    const { status, stdout } = run(...(command === "main" ? [] : command.split(" ")), "--help");
    expect(status).toBe(0);
    await expect(stdout).toMatchFileSnapshot(`golden/help-${command.replace(" ", "-")}.txt`);
  });

  test.for([
    [["run"]],
    [["run", "machine.json", "--accelerator", "hax"]],
    [["run", "machine.json", "--timeout", "-1"]],
    [["run", "machine.json", "--timeout", "x"]],
    [["run", "machine.json", "--until", "("]],
    [["qmp"]],
    [["qmp", "machine.json"]],
    [["qmp", "machine.json", "balloon", "{"]],
    [["qmp", "machine.json", "balloon", "[1]"]],
    [["qmp", "machine.json", "balloon", "{}", "more"]],
    [["template", "make", "machine.json"]],
    [["template", "remove"]],
    [["template", "remove", "--all", "abcd"]],
    [["template", "run", "abcd", "--until", "x", "true"]],
    [["fly"]],
    [["probe", "--fast"]],
  ])("%j is wrong and ends with 2", ([argv = []]) => {
    expect(run(...argv).status).toBe(2);
  });
});

describe.skipIf(missing !== "")(titled("qemu-harness qmp", missing), () => {
  const query = ["qmp", "machine.json", "--accelerator", "tcg"];

  test("prints what a command returns", () => {
    const plain = run(...query, "query-status", "--until", "READY", "--timeout", "30");
    expect(plain.status).toBe(0);
    expect(JSON.parse(plain.stdout)).toMatchObject({ running: true, status: "running" });
    const json = run(...query, "human-monitor-command", '{ "command-line": "info kvm" }', "--json");
    expect(JSON.parse(json.stdout)).toMatchObject({
      kind: "qemu-harness.qmp",
      command: "human-monitor-command",
      return: expect.stringContaining("kvm support"),
    });
  });

  test("says what is wrong with a command's arguments", () => {
    const { status, stderr } = run(...query, "balloon", '{ "value": "much" }');
    expect(status).toBe(1);
    expect(stderr).toContain('value: expected an integer, got "much"');
  });
});

describe.skipIf(missing !== "")(titled("qemu-harness template", missing), () => {
  const make = ["template", "make", "machine.json", "--accelerator", "tcg", "--until", "READY", "--json"];

  test("makes one once, lists it, continues it and removes it", () => {
    const first = JSON.parse(run(...make).stdout);
    expect(first).toMatchObject({ kind: "qemu-harness.template", version: 1, cached: false });
    expect(JSON.parse(run(...make).stdout)).toMatchObject({ id: first.id, cached: true });
    const listed = JSON.parse(run("template", "list", "--json").stdout);
    expect(listed).toMatchObject({ kind: "qemu-harness.templates", templates: [{ id: first.id }] });
    expect(run("template", "list").stdout).toMatch(/^[0-9a-f]{12} {2}machine {2}[\d.]+ [KM]iB {2}made just now/);
    const start = first.id.slice(0, 6);
    const late = run("template", "run", start, "--until", "never", "--timeout", "1", "--json");
    expect([late.status, JSON.parse(late.stdout).code]).toEqual([1, "QEMU_CONSOLE_TIMEOUT"]);
    const program = run("template", "run", start, "true");
    expect([program.status, program.stderr]).toEqual([1, expect.stringContaining("[QEMU_BAD_OPTIONS]")]);
    expect(run("template", "remove", start)).toMatchObject({
      status: 0,
      stdout: `${first.id.slice(0, 12)}  removed\n`,
    });
    expect(run("template", "run", start).stderr).toContain("[QEMU_SNAPSHOT_NOT_FOUND]");
    expect(run("template", "list").stdout).toMatch(/^no templates in /);
  });

  test("keeps one in a directory, and says what differs later", () => {
    expect(run("template", "make", "machine.json", "kept", ...make.slice(3)).status).toBe(0);
    expect(run("template", "make", "machine.json", "kept", ...make.slice(3)).status).toBe(1);
    const kernel = join(directory, "toy");
    writeFileSync(kernel, Buffer.concat([toyKernel(), Buffer.from([0])]));
    const { status, stderr } = run("template", "run", "kept", "--until", "x");
    writeFileSync(kernel, toyKernel());
    expect([status, stderr]).toEqual([1, expect.stringMatching(/kernel\.content: expected [0-9a-f]{12}…, got/)]);
  });
});

describe.skipIf(missing !== "")(titled("qemu-harness run", missing), () => {
  const machine = ["run", "machine.json", "--accelerator", "tcg"];

  test("shows the console and ends at the pattern", () => {
    const { status, stdout } = run(...machine, "--until", "^READY .*hello$", "--timeout", "30");
    expect(stdout).toBe("READY toy hello\n");
    expect(status).toBe(0);
  });

  test("prints one JSON document", () => {
    const limits = ["--timeout", "30", "--timeline", "boot.svg"];
    const { status, stdout } = run(...machine, "--until", "READY (\\S+)", ...limits, "--json");
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      kind: "qemu-harness.run",
      version: 1,
      accelerator: { kind: "tcg" },
      match: { text: "READY toy", groups: ["toy"] },
      exit: { exitCode: 0, reason: "host-qmp-quit" },
      timeline: { phases: [{ name: "qemu", fromMs: 0 }, { name: "kernel" }] },
    });
    expect(JSON.parse(stdout).timeline.marks.map(({ text }: { text: string }) => text)).toContain("READY toy hello");
    expect(readFileSync(join(directory, "boot.svg"), "utf8")).toMatch(/^<svg .*<\/svg>\n$/s);
  });

  test("fails with a code when the pattern does not come", () => {
    const { status, stderr } = run(...machine, "--until", "never", "--timeout", "1", "--timeline", "never.svg");
    expect(status).toBe(1);
    expect(readFileSync(join(directory, "never.svg"), "utf8")).toContain("until READY toy hello");
    expect(stderr).toContain("READY toy hello");
    expect(stderr).toContain("[QEMU_CONSOLE_TIMEOUT]");
  });
});

describe.skipIf(missing !== "")(titled("qemu-harness probe", missing), () => {
  test("says what is there", () => {
    const { status, stdout } = run("probe");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^QEMU +QEMU emulator version [\s\S]*^accelerator +(kvm|tcg): [\s\S]*^TPM emulator +\//m);
    expect(JSON.parse(run("probe", "--json").stdout)).toMatchObject({ kind: "qemu-harness.probe", version: 1 });
  });
});
