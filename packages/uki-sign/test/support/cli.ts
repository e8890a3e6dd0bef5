import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { main } from "../../src/cli.ts";

/** What a run of the command line did. */
interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A temporary directory with files, and the command line run in it. */
export interface CliWorkspace {
  readonly folder: string;
  readonly run: (...argv: string[]) => Promise<CliResult>;
  /** what the person at the terminal types next, to be filled by the test; without it there is no terminal */
  readonly answers: string[];
  /** what the terminal was asked */
  readonly questions: string[];
}

/** Makes a {@link CliWorkspace}; it is removed when the test ends. */
export function cliWorkspace(files: Readonly<Record<string, string | Uint8Array>>): CliWorkspace {
  const folder = mkdtempSync(join(tmpdir(), "uki-sign-cli-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  const answers: string[] = [];
  const questions: string[] = [];
  return {
    folder,
    answers,
    questions,
    async run(...argv) {
      let stdout = "";
      let stderr = "";
      const exitCode = await main(argv, {
        stdout: { write: (text) => (stdout += text) },
        stderr: { write: (text) => (stderr += text) },
        env: {},
        cwd: folder,
        signal: new AbortController().signal,
        async askSecret(question) {
          questions.push(question);
          return answers.shift();
        },
      });
      return { exitCode, stdout, stderr };
    },
  };
}
