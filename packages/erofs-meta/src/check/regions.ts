import type { ProblemList } from "./problems.ts";

/** What a part of an image is used for. */
export type RegionUse =
  /** the superblock, an inode, its attributes or what lies behind it */
  | "metadata"
  /** content that belongs to one inode */
  | "own"
  /** chunks and compressed extents, which several inodes may have in common */
  | "shared";

interface Region {
  readonly start: number;
  readonly end: number;
  readonly use: RegionUse;
  readonly path: string;
}

/** Remembers which parts of an image are used, to find those that are used for two things. */
export class Regions {
  readonly #regions: Region[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Adds a part; what is beyond the limit is not compared. */
  add(start: number, length: number, use: RegionUse, path: string): void {
    if (length === 0) return;
    const last = this.#regions.at(-1);
    const end = start + length;
    // Extents that follow each other are one part: compressed files have one for every few kilobytes.
    if (last !== undefined && last.end === start && last.use === use && last.path === path) {
      this.#regions[this.#regions.length - 1] = { ...last, end };
    } else if (this.#regions.length < this.#limit) this.#regions.push({ start, end, use, path });
  }

  /** Reports parts that are used for two things that exclude each other. */
  report(problems: ProblemList): void {
    const sorted = this.#regions.toSorted((a, b) => a.start - b.start);
    // Of what may not be overlapped and of what may, the part that reaches furthest.
    let exclusive: Region | undefined;
    let shared: Region | undefined;
    for (const region of sorted) {
      const isShared = region.use === "shared";
      const other = overlap(region, exclusive) ?? (isShared ? undefined : overlap(region, shared));
      if (other !== undefined) {
        problems.add({
          code: "EROFS_CORRUPT",
          message: `expected bytes ${region.start}..${Math.min(region.end, other.end)} to be one thing, got ${name(other)} and ${name(region)}`,
          offset: region.start,
          path: region.path,
        });
      }
      if (isShared) shared = furthest(shared, region);
      else exclusive = furthest(exclusive, region);
    }
  }
}

function overlap(region: Region, before: Region | undefined): Region | undefined {
  return before !== undefined && before.end > region.start ? before : undefined;
}

function furthest(a: Region | undefined, b: Region): Region {
  return a === undefined || b.end > a.end ? b : a;
}

function name({ use, path }: Region): string {
  return `${use === "metadata" ? "metadata" : "content"} of ${path}`;
}
