import { Excerpt } from "../excerpt.ts";
import type { Sandbox } from "../sandbox.ts";

/** How a line is run for a model. */
interface RunRequest {
  readonly command: string;
  readonly cwd?: string | undefined;
  readonly timeoutMs: number;
  /** most of each output that is kept, in characters */
  readonly maxOutput: number;
  readonly signal: AbortSignal;
}

/** What came of it, as far as it got. */
interface RunReport {
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a line of a shell; one that takes too long is ended, and what it has said until then is not lost. */
export async function runLine(sandbox: Sandbox, request: RunRequest): Promise<RunReport> {
  const { command, cwd, timeoutMs, maxOutput, signal } = request;
  const program = await sandbox.spawn(["/bin/sh", "-c", command], { cwd });
  const [stdout, stderr] = [new Excerpt(maxOutput), new Excerpt(maxOutput)];
  const collect = async (output: NodeJS.ReadableStream, into: Excerpt): Promise<void> => {
    output.setEncoding("utf8");
    for await (const text of output) into.add(text as string);
  };
  const timeout = AbortSignal.timeout(timeoutMs);
  const ended = AbortSignal.any([timeout, signal]);
  const end = (): void => program.close();
  ended.addEventListener("abort", end, { once: true });
  try {
    program.stdin.end();
    const outputs = Promise.allSettled([collect(program.stdout, stdout), collect(program.stderr, stderr)]);
    const exit = await program.exit.catch((error: unknown) => {
      signal.throwIfAborted();
      if (timeout.aborted) return {};
      throw error;
    });
    await outputs;
    return { ...exit, timedOut: timeout.aborted, stdout: `${stdout}`, stderr: `${stderr}` };
  } finally {
    ended.removeEventListener("abort", end);
    program.close();
  }
}
