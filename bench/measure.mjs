// What every part of the bench measures with: interleaved rounds, medians, and rows that carry their target.
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";

const ERROR_LINES = 12;

/** Something that this machine or user can't do; the bench lists it and goes on. */
export class NotRunnable extends Error {}

/**
 * Runs a program to its end, which is also waited for when it is called off.
 *
 * @returns Its output, and how long it took in `milliseconds`.
 */
export async function run(program, args, { signal, env = process.env } = {}) {
  signal?.throwIfAborted();
  const startedAt = performance.now();
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const end = () => child.kill("SIGTERM");
  signal?.addEventListener("abort", end, { once: true });
  const closed = new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, killer) => resolve(code ?? killer));
  });
  try {
    const [stdout, stderr, status] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
    const ms = performance.now() - startedAt;
    signal?.throwIfAborted();
    if (status === 0) return { stdout, stderr, ms };
    // A document on stdout says more than the exit code.
    const said = `${stdout}\n${stderr}`.trim().split("\n").slice(-ERROR_LINES).join("\n");
    throw new Error(`${program} ended with ${status}:\n${said}`);
  } catch (error) {
    if (error.code === "ENOENT") throw new NotRunnable(`${program} is not installed`, { cause: error });
    throw error;
  } finally {
    signal?.removeEventListener("abort", end);
  }
}

/**
 * Measures sides in turn, in another order each round, so that a noisy moment hits all of them.
 *
 * @param sides - Functions by name; each gets the number of the round and resolves with a number.
 * @returns The numbers of each side, in the order in which they were measured.
 */
export async function interleave(rounds, sides) {
  const names = Object.keys(sides);
  const values = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) values[name].push(await sides[name](round));
  }
  return values;
}

/** The milliseconds that `action` takes. */
export async function timed(action) {
  const startedAt = performance.now();
  await action();
  return performance.now() - startedAt;
}

/** The middle value; of an even number of them, the mean of the two in the middle. */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * A row of the result.
 *
 * @param options - `ours` and `theirs` are measured values, in `ms` or `bytes`; `target` is the largest ratio, or the
 *   largest value of ours where there is nothing to compare with; `below` makes the target itself too much. `note` says
 *   what else was seen.
 */
export function row(what, { unit, ours, theirs, target, below = false, note }) {
  const ratio = theirs === undefined ? undefined : median(ours) / median(theirs);
  const judged = ratio ?? median(ours);
  return {
    what,
    unit,
    ours: median(ours),
    ...(theirs === undefined ? {} : { theirs: median(theirs), ratio }),
    target: { atMost: target, of: ratio === undefined ? unit : "ratio", ...(below ? { exclusive: true } : {}) },
    ok: below ? judged < target : judged <= target,
    values: { ours, ...(theirs === undefined ? {} : { theirs }) },
    ...(note === undefined ? {} : { note }),
  };
}
