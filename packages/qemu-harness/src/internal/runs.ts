import { isZero } from "@leveret/block-source";

/** A part of a file: offset and length in `bytes`. */
export type Run = readonly [offset: number, length: number];

/** Zeros are not kept, in blocks of so many `bytes`: there is no room for them in a file. */
export const BLOCK_SIZE: number = 64 * 1024;

/** Adds a part behind those that there are, in one with the last one where they meet. */
export function addRun(runs: [number, number][], offset: number, length: number): void {
  const last = runs.at(-1);
  if (last !== undefined && last[0] + last[1] >= offset) last[1] = Math.max(last[1], offset + length - last[0]);
  else runs.push([offset, length]);
}

/** All parts of two files together, in whole blocks, in order. */
export function unitedRuns(some: readonly Run[], others: readonly Run[]): Run[] {
  const united: [number, number][] = [];
  for (const [offset, length] of [...some, ...others].sort(([one], [other]) => one - other)) {
    const start = offset - (offset % BLOCK_SIZE);
    addRun(united, start, Math.ceil((offset + length) / BLOCK_SIZE) * BLOCK_SIZE - start);
  }
  return united;
}

/** Where bytes are not zero, in whole blocks. */
export function dataIn(bytes: Uint8Array): readonly Run[] {
  const runs: [number, number][] = [];
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE) {
    const end = Math.min(bytes.length, at + BLOCK_SIZE);
    if (!isZero(bytes, at, end)) addRun(runs, at, end - at);
  }
  return runs;
}
