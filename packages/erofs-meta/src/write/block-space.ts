import { FreeRanges } from "./free-ranges.ts";
import type { OldContent } from "./old-places.ts";

/** Blocks one behind another. */
export interface Run {
  readonly block: number;
  readonly count: number;
}

/** Gives out the blocks of an image: those behind everything else, and those in holes between what has a place. */
export class BlockSpace {
  readonly #holes = new FreeRanges();
  #end: number;

  /**
   * @param end - behind the last block that has been given out already
   * @param holes - blocks before it that have not, in order
   */
  constructor(end: number, holes: readonly Run[] = []) {
    this.#end = end;
    // What is added last is taken first.
    for (const hole of holes.toReversed()) this.give(hole);
  }

  /** The block behind all others. */
  get end(): number {
    return this.#end;
  }

  /** Makes blocks available that nothing is in. */
  give({ block, count }: Run): void {
    this.#holes.add(block, block + count);
  }

  /** Takes blocks in a hole, none of which is before `first`. */
  takeFrom(first: number, count: number): number | undefined {
    return this.#holes.take(count, (block) => Math.max(block, first));
  }

  /** Takes blocks behind all others. */
  takeAtEnd(count: number): number {
    const block = this.#end;
    this.#end += count;
    return block;
  }

  /**
   * Chooses blocks for one content: those it had, if they are enough, or may be. Until it has all of its blocks, no
   * other content may get any.
   *
   * @param most - Blocks it takes at most; not given where that is not known, when it goes behind all others.
   * @param old - Where it was in an older image.
   */
  course(most: number | undefined, old?: OldContent): Course {
    if (old !== undefined) {
      const room = old.runs.reduce((sum, { count }) => sum + count, 0);
      const mayFit = most === undefined || most <= room || old.isSparse;
      if (mayFit) return new Course(this, old.runs);
      for (const run of old.runs) this.give(run);
    }
    const block = most === undefined || most === 0 ? undefined : this.#holes.take(most);
    return new Course(this, block === undefined || most === undefined ? [] : [{ block, count: most }]);
  }
}

/** The blocks that one content goes to, in order: runs that were chosen for it, then what is behind all others. */
export class Course {
  readonly #space: BlockSpace;
  readonly #runs: Run[];
  #first: number | undefined;
  /** behind the block that was taken last */
  #next = 0;
  #isOneRun = true;

  /** @param runs - none of which is given to anything else */
  constructor(space: BlockSpace, runs: readonly Run[]) {
    this.#space = space;
    this.#runs = runs.toReversed();
  }

  /** The first block of the content; none when it has no blocks. */
  get first(): number | undefined {
    return this.#first;
  }

  /** Whether the blocks that were taken lie one behind another, `more` of them included that have not been yet. */
  isOneRun(more = 0): boolean {
    if (!this.#isOneRun || more === 0) return this.#isOneRun;
    const { block, count } = this.#runs.at(-1) ?? { block: this.#space.end, count: more };
    return count >= more && (this.#first === undefined || block === this.#next);
  }

  /**
   * Takes the next blocks: as many as are wanted, or fewer where a run ends.
   *
   * @param unit - Blocks that have to be one behind another; all that are wanted when those are fewer.
   */
  take(wanted: number, unit: number): Run {
    const least = Math.min(unit, wanted);
    const { block, count: room } = this.#peek(least);
    const count = room >= wanted ? wanted : room - (room % unit);
    const run = this.#runs.pop();
    if (run === undefined) this.#space.takeAtEnd(count);
    else if (run.count > count) this.#runs.push({ block: run.block + count, count: run.count - count });
    if (this.#first === undefined) this.#first = block;
    else if (block !== this.#next) this.#isOneRun = false;
    this.#next = block + count;
    return { block, count };
  }

  /** Gives back what was chosen and not taken. */
  end(): void {
    for (const run of this.#runs.splice(0)) this.#space.give(run);
  }

  /** The next run of at least so many blocks; shorter ones before it are given back. */
  #peek(least: number): Run {
    for (let run = this.#runs.at(-1); run !== undefined; run = this.#runs.at(-1)) {
      if (run.count >= least) return run;
      this.#runs.pop();
      this.#space.give(run);
    }
    return { block: this.#space.end, count: Number.POSITIVE_INFINITY };
  }
}
