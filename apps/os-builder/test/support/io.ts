import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { main } from "../../src/cli.ts";
import { OsBuilderError } from "../../src/errors.ts";

/** A directory that is removed when the test ends. */
export async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "os-builder-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** What a run of the command line did. */
export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `leveret-os` inside of this process. */
export async function leveretOs(
  cwd: string,
  argv: readonly string[],
  options: { readonly env?: Record<string, string>; readonly signal?: AbortSignal } = {},
): Promise<CliResult> {
  let stdout = "";
  let stderr = "";
  const exitCode = await main(argv, {
    stdout: { write: (text) => (stdout += text), columns: 100 },
    stderr: { write: (text) => (stderr += text), columns: 100 },
    env: options.env ?? {},
    cwd,
    signal: options.signal ?? new AbortController().signal,
  });
  return { exitCode, stdout, stderr };
}

/** The error with which `promise` rejects; it has to be one of this package. */
export async function rejectionOf(promise: Promise<unknown>): Promise<OsBuilderError> {
  const outcome = await promise.then(
    () => new Error("expected an error, got none"),
    (error: unknown) => error,
  );
  if (outcome instanceof OsBuilderError) return outcome;
  throw outcome;
}
