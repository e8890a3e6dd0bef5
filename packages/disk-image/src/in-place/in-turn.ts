import { realpath } from "node:fs/promises";

/** For each file that is being changed, when that is over; never rejected. */
const turns = new Map<string, Promise<unknown>>();

/** Runs something that changes a file when nothing else in this process changes it any more. */
export async function inTurn<T>(path: string, run: () => Promise<T>): Promise<T> {
  const file = await realpath(path).catch(() => path);
  const mine = (turns.get(file) ?? Promise.resolve()).then(run);
  const over = mine.catch(() => undefined);
  turns.set(file, over);
  try {
    return await mine;
  } finally {
    if (turns.get(file) === over) turns.delete(file);
  }
}
