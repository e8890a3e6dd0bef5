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
