/** Ranges of a size class that are looked at, newest first, before a larger class is. */
const MAX_LOOKS = 16;

interface Range {
  readonly start: number;
  readonly end: number;
}

/**
 * Ranges that nothing is in, by size: a thing goes into one that is little larger than it. How long that takes does not
 * depend on how many there are.
 */
export class FreeRanges {
  /** those of at least 2^n and less than 2^(n+1) units, for every n */
  readonly #classes: Range[][] = [];

  /** Adds a range. Of equal ones the last that was added is taken first. */
  add(start: number, end: number): void {
    if (end <= start) return;
    const size = classOf(end - start);
    while (this.#classes.length <= size) this.#classes.push([]);
    this.#classes[size]?.push({ start, end });
  }

  /**
   * Takes a range of `size`, and leaves what is around it.
   *
   * @param align - Where something can start that may start at a place or behind it.
   * @returns Its start, or nothing where there is no room.
   */
  take(size: number, align: (start: number) => number = (start) => start): number | undefined {
    for (let index = classOf(size); index < this.#classes.length; index += 1) {
      const ranges = this.#classes[index] ?? [];
      const least = Math.max(0, ranges.length - MAX_LOOKS);
      for (let at = ranges.length - 1; at >= least; at -= 1) {
        const range = ranges[at];
        if (range === undefined) continue;
        const start = align(range.start);
        if (start + size > range.end) continue;
        ranges.splice(at, 1);
        this.add(start + size, range.end);
        this.add(range.start, start);
        return start;
      }
    }
    return undefined;
  }
}

function classOf(size: number): number {
  return Math.floor(Math.log2(size));
}
