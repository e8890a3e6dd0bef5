import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandIo } from "@leveret/command";
import { afterEach, beforeEach, expect, test } from "vitest";
import { main } from "../src/cli.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "qemu-harness-cli-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const out = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    write(text: string) {
      out[name] += text;
    },
  });
  const io: CommandIo = {
    stdout: sink("stdout"),
    stderr: sink("stderr"),
    env: { PATH: `${directory}:${process.env.PATH}`, XDG_CACHE_HOME: directory },
    cwd: directory,
    signal: new AbortController().signal,
  };
  return { code: await main(argv, io), ...out };
}

function describeMachine(description: unknown): void {
  writeFileSync(
    join(directory, "machine.json"),
    typeof description === "string" ? description : JSON.stringify(description),
  );
}

function fakeQemu(): void {
  const path = join(directory, "qemu-system-x86_64");
  writeFileSync(path, '#!/bin/sh\ncase "$1" in --version) echo "QEMU emulator version 7.2.0";; esac\n');
  chmodSync(path, 0o755);
}

test("qmp --schema shows what commands and events are, and needs no QEMU", async () => {
  expect(await run("qmp", "--schema", "query-yank")).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      /^query-yank {2}\(may run out of band\)\ntakes\n {2}nothing\nreturns\n {2}array of object\n/,
    ),
  });
  const json = JSON.parse((await run("qmp", "--schema", "RTC_CHANGE", "--json")).stdout);
  expect(json).toMatchObject({ kind: "qemu-harness.qmp-schema", version: 1, event: "RTC_CHANGE" });
  const all = (await run("qmp", "--schema")).stdout.split("\n");
  expect(all).toContain("query-accelerators  (QEMU 11.1 or newer)");
  expect(all).toContain("SHUTDOWN");
  const unknown = await run("qmp", "--schema", "query_status");
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("there is query-status")]);
});

test("plan prints the command line and starts nothing", async () => {
  fakeQemu();
  describeMachine({ boot: { type: "kernel", kernelPath: "a kernel" }, rng: false });
  const { code, stdout } = await run("run", "machine.json", "--plan", "--accelerator", "tcg");
  expect(code).toBe(0);
  expect(stdout).toContain(`${join(directory, "qemu-system-x86_64")} -nodefaults`);
  expect(stdout).toContain("-kernel 'a kernel'");
  const json = JSON.parse((await run("run", "machine.json", "--plan", "--accelerator", "tcg", "--json")).stdout);
  expect(json).toMatchObject({ kind: "qemu-harness.plan", version: 1, accelerator: { kind: "tcg" } });
});

test.for([
  ["a missing file", undefined],
  ["a file that is not JSON", "{"],
  ["a wrong description", { boot: { type: "uefi" }, memory: 1 }],
])("%s is an error with a code", async ([, description]) => {
  fakeQemu();
  if (description !== undefined) describeMachine(description);
  const plain = await run("run", "machine.json");
  expect([plain.code, plain.stdout]).toEqual([1, ""]);
  expect(plain.stderr).toContain("[QEMU_BAD_OPTIONS]");
  const json = await run("run", "machine.json", "--json");
  expect(JSON.parse(json.stdout)).toMatchObject({ kind: "error", code: "QEMU_BAD_OPTIONS" });
});

test("a QEMU that ends at once is an error that shows the command line", async () => {
  fakeQemu();
  describeMachine({ boot: { type: "kernel", kernelPath: "k" } });
  const { code, stdout } = await run("run", "machine.json", "--accelerator", "tcg", "--json");
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({
    code: "QEMU_START_FAILED",
    commandLine: expect.stringContaining("-kernel k"),
  });
});
