import { totalmem } from "node:os";

const MEBIBYTE = 1024 * 1024;

/** Memory that the machines of one worker may have together; those that come later wait for those that end. */
export class MemoryBudget {
  readonly #totalMiB: number;
  #usedMiB = 0;
  readonly #waiting: { readonly memoryMiB: number; readonly start: () => void }[] = [];

  /** @param totalMiB - In `MiB`; half of the host's memory unless given. */
  constructor(totalMiB = Math.floor(totalmem() / MEBIBYTE / 2)) {
    this.#totalMiB = totalMiB;
  }

  /**
   * Takes memory, when there is enough, in the order of the calls. A machine that is larger than the budget gets it when
   * there is no other.
   *
   * @returns Gives the memory back. Idempotent.
   */
  async take(memoryMiB: number, signal?: AbortSignal): Promise<() => void> {
    await new Promise<void>((resolve, reject) => {
      const entry = { memoryMiB, start: resolve };
      this.#waiting.push(entry);
      signal?.addEventListener("abort", () => {
        const index = this.#waiting.indexOf(entry);
        if (index < 0) return;
        this.#waiting.splice(index, 1);
        reject(signal.reason);
      });
      this.#admit();
    });
    let taken = memoryMiB;
    return () => {
      this.#usedMiB -= taken;
      taken = 0;
      this.#admit();
    };
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#usedMiB > 0 && this.#usedMiB + next.memoryMiB > this.#totalMiB) return;
      this.#waiting.shift();
      this.#usedMiB += next.memoryMiB;
      next.start();
    }
  }
}
