/** Consecutive blocks. */
export interface BlockRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Adds blocks that come after all others, joining them to the last range where they follow it.
 *
 * @returns whether there was room: a list has at most `limit` ranges.
 */
export function addBlocks(ranges: BlockRange[], { first, count }: BlockRange, limit: number): boolean {
  const last = ranges.at(-1);
  if (last !== undefined && last.first + last.count === first) {
    ranges[ranges.length - 1] = { first: last.first, count: last.count + count };
    return true;
  }
  if (ranges.length >= limit) return false;
  ranges.push({ first, count });
  return true;
}
