import { setImmediate } from "node:timers/promises";

/** Work done between two times that timers and signals are heard: some milliseconds. */
const TURN = 4 * 1024 * 1024;
/** What reading an inode costs, in bytes of content copied. */
export const INODE_COST = 4096;

/** Sees to it that work without promises lets others have their turn. */
export class Pace {
  #left = TURN;

  /** @returns a promise to await before going on, now and then. */
  pause(bytes: number): Promise<void> | undefined {
    this.#left -= bytes;
    if (this.#left > 0) return undefined;
    this.#left = TURN;
    return setImmediate();
  }
}
