import { existsSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { forgetCheckpoints } from "./checkpoint.ts";
import { lock } from "./lock.ts";
import { type Places, socketPath } from "./places.ts";
import { forgetState } from "./state.ts";

/**
 * Cleans up after sandboxes that have ended without doing it themselves, because their supervisors were killed.
 *
 * @param names - Of those that do not answer.
 * @returns Those that it was done for. One that is about to start is left alone.
 */
export async function sweep(places: Places, names: readonly string[]): Promise<string[]> {
  const swept = await Promise.all(
    names.map(async (name) => {
      const directory = join(places.machines, name);
      const path = join(directory, "lease");
      if (!existsSync(path)) return [];
      await using file = await open(path, "a");
      if (!(await lock(file))) return [];
      await forgetCheckpoints(directory);
      await rm(socketPath(places, name), { force: true });
      await forgetState(directory);
      return [name];
    }),
  );
  return swept.flat();
}
