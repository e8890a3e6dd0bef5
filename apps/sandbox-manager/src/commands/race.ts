import { type CommandIo, escapeText, table, UsageError, writeJson } from "@leveret/command";
import { race as runRace } from "../race.ts";
import { find, placeInside } from "./find.ts";

interface RaceFlags {
  readonly count: string;
  readonly judge?: string;
  readonly name?: string;
  readonly json?: true;
}

const SECOND_MS = 1000;

/** @returns The exit code: 1 when none has won. */
export async function race(argv: readonly string[], flags: RaceFlags, io: CommandIo): Promise<number> {
  if (!/^[1-9]\d{0,2}$/.test(flags.count)) {
    throw new UsageError(`expected a number of copies, got ${JSON.stringify(flags.count)}`);
  }
  const sandbox = await find(flags.name, io);
  const cwd = await placeInside(sandbox, io);
  const { judge } = flags;
  const { winner, runs } = await runRace(sandbox, { count: Number(flags.count), argv, judge, cwd, signal: io.signal });
  if (flags.json) {
    writeJson(io, { kind: "sandbox-race", version: 1, winner: winner?.state, runs });
    return winner === undefined ? 1 : 0;
  }
  const rows = runs.map(({ name = "-", exitCode, signal, durationMs = 0, score, error }) => [
    name,
    `${(durationMs / SECOND_MS).toFixed(1)} s`,
    escapeText(error ?? (exitCode === undefined ? `${signal}` : `exit code ${exitCode}`)),
    score === undefined ? "" : `${score}`,
  ]);
  io.stderr.write(`${table([["NAME", "AFTER", "END", "SCORE"], ...rows])}\n`);
  if (winner === undefined) {
    io.stderr.write("none has won; all have ended\n");
    return 1;
  }
  io.stderr.write(
    `leveret-sandbox diff -n ${winner.name} shows what it has changed, apply -n ${winner.name} takes it\n`,
  );
  io.stdout.write(`${winner.name}\n`);
  return 0;
}
