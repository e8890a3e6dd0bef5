import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { formatBytes, formatDuration, runCommand, table, UsageError, writeJson } from "../src/index.ts";

function capture(): { io: Parameters<typeof runCommand>[2]; out: () => string; err: () => string } {
  let out = "";
  let err = "";
  const io = {
    stdout: { write: (text: string) => (out += text) },
    stderr: { write: (text: string) => (err += text) },
    env: {},
    cwd: "/",
    signal: new AbortController().signal,
  };
  return { io, out: () => out, err: () => err };
}

const nothing = (): void => {};

function program(action: () => void): Command {
  const root = new Command("tool");
  root.command("go").option("--json").action(action);
  return root;
}

describe("runCommand", () => {
  test("returns 0 when the action ends", async () => {
    const { io } = capture();
    expect(await runCommand(program(nothing), ["go"], io)).toBe(0);
  });

  test.each([[["nonsense"]], [["go", "--unknown"]]])("returns 2 for the wrong usage %j", async (argv) => {
    const { io, err } = capture();
    expect(await runCommand(program(nothing), argv, io)).toBe(2);
    expect(err()).toMatch(/unknown/);
  });

  test("prints a coded error with its hint and returns 1", async () => {
    const { io, err } = capture();
    const fail = () => {
      throw Object.assign(new Error("expected a disk, got a file"), { code: "X_BAD", hint: "give a disk" });
    };
    expect(await runCommand(program(fail), ["go"], io)).toBe(1);
    expect(err()).toBe("error: expected a disk, got a file [X_BAD]\n  give a disk\n");
  });

  test("prints a coded error as a document under --json", async () => {
    const { io, out } = capture();
    const fail = () => {
      throw Object.assign(new Error("bad"), { code: "X_BAD", offset: 12n });
    };
    expect(await runCommand(program(fail), ["go", "--json"], io)).toBe(1);
    expect(JSON.parse(out())).toEqual({ kind: "error", version: 1, code: "X_BAD", message: "bad", offset: "12" });
  });

  test("prints the stack of anything else and says that it is a bug", async () => {
    const { io, err } = capture();
    const fail = () => {
      throw new TypeError("oops");
    };
    expect(await runCommand(program(fail), ["go"], io)).toBe(1);
    expect(err()).toMatch(/TypeError: oops\n\s+at .*\nThis is a bug/s);
  });

  test("returns 2 for a UsageError", async () => {
    const { io } = capture();
    const fail = () => {
      throw new UsageError("--a excludes --b");
    };
    expect(await runCommand(program(fail), ["go"], io)).toBe(2);
  });
});

test("writeJson prints bigints as strings and bytes as hex", () => {
  const { io, out } = capture();
  writeJson(io, { kind: "k", version: 1, n: 5n, b: Uint8Array.of(1, 255) });
  expect(JSON.parse(out())).toEqual({ kind: "k", version: 1, n: "5", b: "01ff" });
});

test("sizes, durations and tables read well", () => {
  expect([1023, 1536, 15 << 20].map(formatBytes)).toEqual(["1023 B", "1.5 KiB", "15 MiB"]);
  expect([940, 75_000, 119_700].map(formatDuration)).toEqual(["0.9 s", "1 min 15 s", "2 min 0 s"]);
  expect(table([["a", "bbb"], ["cccc"], ["d", "e"]])).toBe("a     bbb\ncccc\nd     e");
});
