/** The next number, from 0 to 1 without 1, of a sequence that looks random and is the same for the same seed. */
export type Random = () => number;

const GOLDEN = 0x9e37_79b9;

/** Makes numbers from a seed (SplitMix32: a counter, whose bits are mixed). */
export function seededRandom(seed: number): Random {
  let state = Math.trunc(seed) >>> 0;
  return () => {
    state = (state + GOLDEN) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}
