import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

// Signals and broken pipes need a process of their own, and that process needs JavaScript.
const folder = mkdtempSync(join(tmpdir(), "leveret-command-"));

beforeAll(() => {
  const source = readFileSync(new URL("../src/io.ts", import.meta.url), "utf8");
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext } });
  writeFileSync(join(folder, "io.mjs"), outputText);
  writeFileSync(
    join(folder, "waits.mjs"),
    [
      'import { processIo } from "./io.mjs";',
      "const { signal, stdout } = processIo();",
      'const alive = setTimeout(() => stdout.write("too late\\n"), 30_000);',
      'signal.addEventListener("abort", () => {',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: that program's template
      "  stdout.write(`${signal.reason.message}\\n`);",
      '  if (process.argv[2] === "tidy") setTimeout(() => clearTimeout(alive), 300);',
      "});",
      'stdout.write("ready\\n");',
    ].join("\n"),
  );
  writeFileSync(
    join(folder, "asks.mjs"),
    [
      'import { processIo } from "./io.mjs";',
      "const { signal, stdout, askSecret } = processIo();",
      'const answer = await askSecret("Secret: ").catch((error) => "rejected, " + error.message);',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: that program's template
      "stdout.write(`answer ${JSON.stringify(answer)}, aborted ${signal.aborted}\n`);",
    ].join("\n"),
  );
  writeFileSync(
    join(folder, "floods.mjs"),
    [
      'import { processIo } from "./io.mjs";',
      "const { stdout } = processIo();",
      'for (let i = 0; i < 20; i++) { stdout.write("line\\n".repeat(20_000)); await new Promise(setImmediate); }',
    ].join("\n"),
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Outcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly text: string;
}

async function play(kind: "tidy" | "hangs", act: (child: ChildProcess) => Promise<void>): Promise<Outcome> {
  const child = spawn(process.execPath, [join(folder, "waits.mjs"), kind], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk) => (text += chunk));
  const ended = once(child, "close");
  await once(child.stdout, "data");
  await act(child);
  const [exitCode, signal] = await ended;
  return { exitCode, signal, text };
}

describe("processIo", () => {
  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "aborts once on %s and lets the program tidy up",
    async (name) => {
      const outcome = await play("tidy", async (child) => void child.kill(name));
      expect(outcome).toEqual({ exitCode: 0, signal: null, text: `ready\ninterrupted by ${name}\n` });
    },
  );

  test("takes the same Ctrl-C, coming a second time through npm, for one", async () => {
    const outcome = await play("tidy", async (child) => {
      child.kill("SIGINT");
      await sleep(50);
      child.kill("SIGINT");
    });
    expect(outcome).toEqual({ exitCode: 0, signal: null, text: "ready\ninterrupted by SIGINT\n" });
  });

  test("ends at once on a later signal, when tidying up hangs", async () => {
    const outcome = await play("hangs", async (child) => {
      child.kill("SIGTERM");
      await sleep(1200);
      child.kill("SIGINT");
    });
    expect(outcome).toEqual({ exitCode: null, signal: "SIGINT", text: "ready\ninterrupted by SIGTERM\n" });
  });

  test("is not upset by a reader that goes away", async () => {
    const child = spawn(process.execPath, [join(folder, "floods.mjs")], { stdio: ["ignore", "pipe", "pipe"] });
    let complaints = "";
    child.stderr.on("data", (chunk) => (complaints += chunk));
    const ended = once(child, "close");
    await once(child.stdout, "data");
    child.stdout.destroy();
    expect([await ended, complaints]).toEqual([[0, null], ""]);
  });
});

/** Runs the program on a terminal, types `keys` when it asks, and returns what was shown, with the settings afterwards. */
async function type(keys: string): Promise<string> {
  const command = `'${process.execPath}' '${join(folder, "asks.mjs")}'; stty -a`;
  const child = spawn("script", ["--quiet", "--command", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  const closed = once(child, "close");
  let shown = "";
  for await (const chunk of child.stdout) {
    const asked = shown.includes("Secret: ");
    shown += chunk;
    if (!asked && shown.includes("Secret: ")) child.stdin.write(keys);
  }
  await closed;
  return shown;
}

describe("askSecret", () => {
  test.each([
    ["what is typed", "hare\r", '"hare"'],
    ["characters that were taken back", "hars\u007fe\r", '"hare"'],
    ["a line that was begun again", "rabbit\u0015hare\r", '"hare"'],
    ["characters of several bytes", "häse→\r", '"häse→"'],
    ["an empty line", "\r", '""'],
    ["the end of the input", "\u0004", "undefined"],
  ])("reads %s, shows none of it, and leaves the terminal as it was", async (_what, keys, answer) => {
    const shown = await type(keys);
    expect(shown).toMatch(`Secret: \r\nanswer ${answer}, aborted false\r\n`);
    expect(shown).toMatch(/[^-]echo\b/);
    expect(shown).toMatch(/[^-]isig\b/);
  });

  test("gives up when Ctrl-C is pressed, and leaves the terminal as it was", async () => {
    const shown = await type("ha\u0003");
    expect(shown).toMatch('Secret: \r\nanswer "rejected, interrupted by SIGINT", aborted true\r\n');
    expect(shown).toMatch(/[^-]echo\b/);
    expect(shown).toMatch(/[^-]isig\b/);
  });

  test("has nobody to ask without a terminal", async () => {
    const child = spawn("setsid", [process.execPath, join(folder, "asks.mjs")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    await once(child, "close");
    expect(text).toBe("answer undefined, aborted false\n");
  });
});
