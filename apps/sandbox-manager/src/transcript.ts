import { appendFileSync, writeFileSync } from "node:fs";

/** File with what a sandbox's console said: its kernel, above all. */
export const CONSOLE_FILE = "console";
/** File with what its supervisor said. */
export const LOG_FILE = "log";
/** Most that is kept, in `bytes`: the guest decides how much it says. */
const MAX_BYTES = 1024 * 1024;

/** Keeps the beginning of what a console says. */
export class Transcript {
  readonly #path: string;
  #left = MAX_BYTES;

  /** @param path - File to put it in, in place of what it had. */
  constructor(path: string) {
    writeFileSync(path, "", { mode: 0o600 });
    this.#path = path;
  }

  add(chunk: Uint8Array): void {
    const piece = chunk.subarray(0, this.#left);
    this.#left -= piece.length;
    if (piece.length > 0) appendFileSync(this.#path, piece);
  }
}
