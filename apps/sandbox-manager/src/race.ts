import { excerptOf } from "./excerpt.ts";
import type { Sandbox, SandboxResult } from "./sandbox.ts";

/** How copies of a sandbox race. */
export interface SandboxRaceOptions {
  /** how many */
  readonly count: number;
  /** what each runs: program and arguments; `RACE_NUMBER` in its environment is 1 in the first one, and so on */
  readonly argv: readonly string[];
  /**
   * a line of `/bin/sh` that is run in each copy whose program has ended well, when all have ended; one in which it fails is
   * out, and the last number that it prints is the copy's score, 0 without one. Without a judge the first one that ends
   * well has won, and the others are ended.
   */
  readonly judge?: string | undefined;
  /** where both run, default `/workspace` */
  readonly cwd?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What became of one copy. */
export interface SandboxRaceRun {
  /** absent when there was no copy */
  readonly name?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  /** what it has said on both outputs, beginning and end of it */
  readonly output?: string | undefined;
  /** until it ended, in `milliseconds` */
  readonly durationMs?: number | undefined;
  /** what the judge said, of copies that it let pass */
  readonly score?: number | undefined;
  /** why it did not come to an end, or what the judge had against it */
  readonly error?: string | undefined;
}

/** How a race ended. */
export interface SandboxRace {
  /** it runs on; all others have been ended */
  readonly winner?: Sandbox | undefined;
  /** all copies, in order */
  readonly runs: readonly SandboxRaceRun[];
}

/** Most of what a run has said that is kept, in characters. */
const MAX_OUTPUT = 16 * 1024;
const NUMBER = /-?\d+(?:\.\d+)?/g;

/**
 * Runs the same in several copies of a sandbox, keeps the best one, and ends the others.
 *
 * @throws As {@link Sandbox.fork}; the signal's reason. No copy is left then.
 * @example
 * const { winner } = await race(vm, { count: 4, argv: ["./attempt"], judge: "npm test" });
 * if (winner !== undefined) await winner.apply();
 */
export async function race(sandbox: Sandbox, options: SandboxRaceOptions): Promise<SandboxRace> {
  const { count, judge, signal } = options;
  const forks = await sandbox.fork(count, { signal });
  const copies = forks.map((fork) => (fork.status === "fulfilled" ? fork.value : undefined));
  let winner: Sandbox | undefined;
  try {
    signal?.throwIfAborted();
    const over = new AbortController();
    const ends = AbortSignal.any([over.signal, ...(signal === undefined ? [] : [signal])]);
    let first: number | undefined;
    const runs = await Promise.all(
      forks.map(async (fork, index): Promise<SandboxRaceRun> => {
        if (fork.status === "rejected") return { error: messageOf(fork.reason) };
        const run = await attempt(fork.value, index, options, ends);
        if (run.exitCode === 0 && first === undefined) {
          first = index;
          if (judge === undefined) over.abort(new Error("another one was first"));
        }
        return run;
      }),
    );
    signal?.throwIfAborted();
    const judged =
      judge === undefined ? runs : await Promise.all(runs.map((run, at) => judgeRun(run, copies[at], options)));
    signal?.throwIfAborted();
    const best = judge === undefined ? first : bestOf(judged);
    winner = best === undefined ? undefined : copies[best];
    return { winner, runs: judged };
  } finally {
    await Promise.allSettled(copies.map(async (copy) => copy === winner || copy?.stop()));
  }
}

async function attempt(
  copy: Sandbox,
  index: number,
  { argv, cwd }: SandboxRaceOptions,
  signal: AbortSignal,
): Promise<SandboxRaceRun> {
  const { name } = copy;
  const startedAt = performance.now();
  const durationMs = (): number => Math.round(performance.now() - startedAt);
  try {
    const result = await copy.exec(argv, { cwd, env: { RACE_NUMBER: `${index + 1}` }, signal });
    return {
      name,
      ...endOf(result),
      output: excerptOf(result.stdout + result.stderr, MAX_OUTPUT),
      durationMs: durationMs(),
    };
  } catch (error) {
    return { name, error: messageOf(error), durationMs: durationMs() };
  }
}

async function judgeRun(
  run: SandboxRaceRun,
  copy: Sandbox | undefined,
  { judge = "", cwd, signal }: SandboxRaceOptions,
): Promise<SandboxRaceRun> {
  if (run.exitCode !== 0 || copy === undefined) return run;
  try {
    const { exitCode, stdout, stderr } = await copy.exec(["/bin/sh", "-c", judge], { cwd, signal });
    if (exitCode !== 0) return { ...run, error: `the judge: ${excerptOf((stderr || stdout).trim(), 500) || exitCode}` };
    return { ...run, score: Number(stdout.match(NUMBER)?.at(-1) ?? 0) };
  } catch (error) {
    return { ...run, error: messageOf(error) };
  }
}

/** The one with the highest score; of several the one that ended first. */
function bestOf(runs: readonly SandboxRaceRun[]): number | undefined {
  const passed = [...runs.entries()].filter(([, { score }]) => score !== undefined);
  passed.sort(
    ([, one], [, other]) => (other.score ?? 0) - (one.score ?? 0) || (one.durationMs ?? 0) - (other.durationMs ?? 0),
  );
  return passed[0]?.[0];
}

function endOf({ exitCode, signal }: SandboxResult): Pick<SandboxRaceRun, "exitCode" | "signal"> {
  return { exitCode, signal };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
