import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { Interruption, runCommand, UsageError, writeJson, writeJsonLine } from "../src/index.ts";
import { capture } from "./capture.ts";

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

  test("prints failures on one line where other documents are", async () => {
    const { io, out } = capture();
    const fail = () => {
      writeJsonLine(io, { kind: "event", version: 1 });
      throw Object.assign(new Error("two\nlines"), { code: "X_BAD" });
    };
    const codes = { done: 0, failed: 1 };
    expect(await runCommand(program(fail), ["go", "--json"], io, codes, writeJsonLine)).toBe(1);
    const lines = out().trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { kind: "event", version: 1 },
      { kind: "error", version: 1, code: "X_BAD", message: "two\nlines" },
    ]);
  });

  test("indents what follows the first line, but not lists that already are", async () => {
    const { io, err } = capture();
    const fail = () => {
      throw Object.assign(new Error("2 mistakes in a file\n  id: missing\nand more\n"), {
        code: "X",
        hint: "one\ntwo",
      });
    };
    expect(await runCommand(program(fail), ["go"], io)).toBe(1);
    expect(err()).toBe("error: 2 mistakes in a file [X]\n  id: missing\n  and more\n  one\n  two\n");
  });

  test("escapes what could drive the terminal in messages, hints, codes and stacks", async () => {
    const evil = "\u001b]0;title\u0007\u009b2J\u202e";
    const escaped = "\\x1b]0;title\\x07\\x9b2J\\u{202e}";
    const coded = capture();
    const fail = () => {
      throw Object.assign(new Error(`bad ${evil}\nmore ${evil}`), { code: `X${evil}`, hint: `not ${evil}` });
    };
    expect(await runCommand(program(fail), ["go"], coded.io)).toBe(1);
    expect(coded.err()).toBe(`error: bad ${escaped} [X${escaped}]\n  more ${escaped}\n  not ${escaped}\n`);
    const bug = capture();
    const crash = () => {
      throw new TypeError(evil);
    };
    expect(await runCommand(program(crash), ["go"], bug.io)).toBe(1);
    expect(bug.err()).toContain(`TypeError: ${escaped}\n`);
    expect(bug.err()).not.toMatch(/[^\P{C}\n]/u);
  });

  test("colours errors on a terminal, unless NO_COLOR is set or the terminal is dumb", async () => {
    const fail = () => {
      throw Object.assign(new Error("bad"), { code: "X" });
    };
    const printed: string[] = [];
    for (const env of [{}, { NO_COLOR: "1" }, { TERM: "dumb" }]) {
      const { io, err } = capture({ terminal: { columns: 80 }, env });
      await runCommand(program(fail), ["go"], io);
      printed.push(err());
    }
    expect(printed).toEqual([
      "\u001b[31merror\u001b[0m: bad \u001b[2m[X]\u001b[0m\n",
      "error: bad [X]\n",
      "error: bad [X]\n",
    ]);
  });

  test("prints the stack of anything else and says that it is a bug", async () => {
    const { io, err } = capture();
    const fail = () => {
      throw new TypeError("oops");
    };
    expect(await runCommand(program(fail), ["go"], io)).toBe(1);
    expect(err()).toMatch(/TypeError: oops\n\s+at .*\nThis is a bug/s);
  });

  test("takes Node's own codes for bugs and the system's for facts", async () => {
    for (const [code, said] of [
      ["ERR_INVALID_ARG_TYPE", "This is a bug"],
      ["ENOENT", "error: oops [ENOENT]"],
    ]) {
      const { io, err } = capture();
      const fail = () => {
        throw Object.assign(new Error("oops"), { code });
      };
      expect(await runCommand(program(fail), ["go"], io)).toBe(1);
      expect(err()).toContain(said);
    }
  });

  test.each([
    ["a bug", ["go", "--json"], 1, "BUG"],
    ["wrong usage", ["go", "--json", "--unknown"], 2, "USAGE"],
  ])("prints a document for %s under --json too", async (_what, argv, exitCode, code) => {
    const { io, out } = capture();
    const fail = () => {
      throw new TypeError("oops");
    };
    expect(await runCommand(program(fail), argv, io)).toBe(exitCode);
    expect(JSON.parse(out())).toMatchObject({ kind: "error", version: 1, code, message: expect.any(String) });
  });

  test.each([[[]], [["--json"]]])("says which signal interrupted it, with flags %j", async (flags) => {
    const controller = new AbortController();
    const { io, out, err } = capture({ signal: controller.signal });
    const interrupted = () => {
      controller.abort(Interruption.bySignal("SIGTERM"));
      controller.signal.throwIfAborted();
    };
    expect(await runCommand(program(interrupted), ["go", ...flags], io)).toBe(143);
    if (flags.length === 0) expect(err()).toBe("interrupted by SIGTERM\n");
    else expect(JSON.parse(out())).toMatchObject({ kind: "error", code: "INTERRUPTED" });
  });

  test("returns 130 for a caller's own abort, and 0 when the work ends in spite of it", async () => {
    const controller = new AbortController();
    const { io } = capture({ signal: controller.signal });
    controller.abort();
    expect(
      await runCommand(
        program(() => controller.signal.throwIfAborted()),
        ["go"],
        io,
      ),
    ).toBe(130);
    expect(await runCommand(program(nothing), ["go"], io)).toBe(0);
  });

  test.each([
    ["EPIPE", 141, ""],
    ["ENOSPC", 1, "cannot write to standard output: no room\n"],
  ])("fails when standard output did, with %s, though the command did not notice", async (code, exitCode, said) => {
    const controller = new AbortController();
    const { io, err } = capture({ signal: controller.signal });
    const fails = () => controller.abort(Interruption.byOutput(Object.assign(new Error("no room"), { code })));
    expect(await runCommand(program(fails), ["go"], io)).toBe(exitCode);
    expect(err()).toBe(said);
  });

  test("returns 0 for --help, as wide as the terminal", async () => {
    const { io, out } = capture({ terminal: { columns: 40 } });
    expect(await runCommand(program(nothing), ["go", "--help"], io)).toBe(0);
    expect(out()).toContain("Usage: tool go [options]");
    expect(
      Math.max(
        ...out()
          .split("\n")
          .map((line) => line.length),
      ),
    ).toBeLessThanOrEqual(40);
  });

  test("returns the exit codes that a command chose", async () => {
    const { io } = capture();
    const codes = { done: 0, failed: 1 };
    const differs = (): void => {
      codes.done = 1;
      codes.failed = 2;
    };
    expect(await runCommand(program(differs), ["go"], io, codes)).toBe(1);
    const fails = (): void => {
      differs();
      throw Object.assign(new Error("gone"), { code: "GONE" });
    };
    expect(await runCommand(program(fails), ["go"], io, codes)).toBe(2);
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

test("writeJson escapes what could drive the terminal, and a program reads the same text", () => {
  const { io, out } = capture();
  const name = "\u001b[2J\u009b2J\u007f\u202e\u{e0001}🐇";
  writeJson(io, { kind: "k", version: 1, name });
  expect(out()).not.toMatch(/[^\P{C}\n]/u);
  expect(out()).toContain("🐇");
  expect(JSON.parse(out())).toMatchObject({ name });
});
