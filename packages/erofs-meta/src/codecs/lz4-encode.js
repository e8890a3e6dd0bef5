// JavaScript, not TypeScript: worker threads of Node 20 start from it both in the sources and in the built package.

import { LAST_LITERALS, LONG_LENGTH, MATCH_MARGIN, MAX_DISTANCE, MIN_MATCH } from "../format/lz4.js";

export const HASH_BITS = 14;
/** What is kept free behind each sequence: a token, and literals enough for the end of a block. */
export const RESERVE = 1 + MATCH_MARGIN;
/** Misses after which the search takes longer steps. */
export const SKIP_SHIFT = 5;

/** Entries of the table of positions that {@link encodeLz4} takes. */
export const LZ4_TABLE_SIZE = 2 ** HASH_BITS;

/**
 * Encodes as much of the input as fits into the output, as one LZ4 block that ends as the format demands.
 *
 * @param {Uint8Array} input
 * @param {DataView} view of the same bytes
 * @param {number} start first byte to encode; nothing in front of it is referred to
 * @param {number} end behind the last byte to encode
 * @param {Uint8Array} output
 * @param {Int32Array} table zeros at first, then kept from call to call over the same input, front to back
 * @returns {{ consumed: number, length: number }} bytes encoded, and bytes they were encoded into
 * @see LZ4 Block Format Description, 1.6.x `doc/lz4_Block_format.md`
 */
export function encodeLz4(input, view, start, end, output, table) {
  const room = output.byteLength;
  const searchEnd = end - MATCH_MARGIN;
  const matchEnd = end - LAST_LITERALS;
  let anchor = start;
  let to = 0;
  let at = start;
  let misses = 0;
  // Positions are stored off by one, so that 0 is none; what earlier calls have stored is in front of the start, or where
  // they did not get to in the end.
  while (at <= searchEnd) {
    // What lies between would not fit any more, as literals, with a match behind it.
    if (to + (at - anchor) + RESERVE > room) break;
    const word = view.getInt32(at, true);
    const slot = Math.imul(word, 0x9e3779b1) >>> (32 - HASH_BITS);
    let candidate = (table[slot] ?? 0) - 1;
    table[slot] = at + 1;
    const isBehind = candidate >= start && candidate < at && at - candidate <= MAX_DISTANCE;
    if (!isBehind || view.getInt32(candidate, true) !== word) {
      misses += 1;
      at += 1 + (misses >>> SKIP_SHIFT);
      continue;
    }
    misses = 0;
    let from = at;
    while (from > anchor && candidate > start && input[from - 1] === input[candidate - 1]) {
      from -= 1;
      candidate -= 1;
    }
    let stop = at + MIN_MATCH;
    for (let other = stop - from + candidate; stop < matchEnd && input[stop] === input[other]; other += 1) stop += 1;

    const literals = from - anchor;
    const fixed = 1 + literals + longBytes(literals) + 2;
    // A match whose length does not fit any more is made as long as fits.
    const lengthRoom = room - to - fixed - RESERVE;
    if (lengthRoom < 0) break;
    const most = LONG_LENGTH - 1 + lengthRoom * 255;
    const length = Math.min(stop - from - MIN_MATCH, most);
    to = putSequence(input, anchor, literals, length, output, to);
    output[to] = (from - candidate) & 0xff;
    output[to + 1] = (from - candidate) >>> 8;
    to = putLong(output, to + 2, length);
    at = from + length + MIN_MATCH;
    anchor = at;
    if (at - 2 > start && at <= searchEnd) {
      table[Math.imul(view.getInt32(at - 2, true), 0x9e3779b1) >>> (32 - HASH_BITS)] = at - 1;
    }
  }
  // The rest, as far as there is room, is the literals that every block ends with.
  const left = room - to - 1;
  let literals = Math.min(end - anchor, left);
  while (literals + longBytes(literals) > left) literals -= 1;
  to = putSequence(input, anchor, literals, 0, output, to);
  return { consumed: anchor + literals - start, length: to };
}

/**
 * Bytes that a length takes besides its four bits.
 *
 * @param {number} length
 */
function longBytes(length) {
  return length < LONG_LENGTH ? 0 : 1 + Math.floor((length - LONG_LENGTH) / 255);
}

/**
 * @param {Uint8Array} output
 * @param {number} at
 * @param {number} length
 */
function putLong(output, at, length) {
  let to = at;
  if (length < LONG_LENGTH) return to;
  let rest = length - LONG_LENGTH;
  for (; rest >= 255; rest -= 255) output[to++] = 255;
  output[to++] = rest;
  return to;
}

/**
 * Writes a token with its literals.
 *
 * @param {Uint8Array} input
 * @param {number} anchor
 * @param {number} literals
 * @param {number} length of the match behind them, less four
 * @param {Uint8Array} output
 * @param {number} at
 */
function putSequence(input, anchor, literals, length, output, at) {
  output[at] = (Math.min(literals, LONG_LENGTH) << 4) | Math.min(length, LONG_LENGTH);
  let to = putLong(output, at + 1, literals);
  if (literals > 64) {
    output.set(input.subarray(anchor, anchor + literals), to);
    return to + literals;
  }
  for (let from = anchor; from < anchor + literals; from += 1) output[to++] = /** @type {number} */ (input[from]);
  return to;
}
