import { closeSync, readSync, writeSync } from "node:fs";
import { openUnnamedFile } from "../internal/unnamed-file.ts";
import { SECTOR_BYTES } from "./nbd-server.ts";

/** Everything that was ever written to a disk, one write after the other, in a file without a name. */
export class Journal {
  readonly #descriptor = openUnnamedFile();
  #sectors = 0;
  #closed = false;

  /**
   * Adds what was written.
   *
   * @param data - A whole number of sectors.
   * @returns Number of its first sector in the journal.
   */
  append(data: Uint8Array): number {
    const first = this.#sectors;
    for (let done = 0; done < data.length; ) {
      done += writeSync(this.#descriptor, data, done, data.length - done, first * SECTOR_BYTES + done);
    }
    this.#sectors += data.length / SECTOR_BYTES;
    return first;
  }

  /** Reads sectors that were added, from `first` on, until `target` is full. */
  readInto(target: Uint8Array, first: number): void {
    for (let done = 0; done < target.length; ) {
      const count = readSync(this.#descriptor, target, done, target.length - done, first * SECTOR_BYTES + done);
      if (count === 0) throw new Error("bug: a sector of the journal that was never written");
      done += count;
    }
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Frees it. Idempotent. */
  close(): void {
    if (!this.#closed) closeSync(this.#descriptor);
    this.#closed = true;
  }
}
