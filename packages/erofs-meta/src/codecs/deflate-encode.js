// JavaScript, not TypeScript: worker threads of Node 20 start from it both in the sources and in the built package.
import { deflateRawSync } from "node:zlib";

const MAX_TRIES = 6;
/** Output this full is full enough. */
const GOOD_FILL = 0.97;
/** What deflate makes of anything is at least this many times smaller than it. */
const MAX_RATIO = 64;

/**
 * Encodes about as much of the input as fits into the output, as one raw deflate stream. zlib has no way to ask for
 * that, so lengths are tried, the next one guessed from the ratio of the last.
 *
 * @param {Uint8Array} input
 * @param {number} start first byte to encode
 * @param {number} end behind the last byte to encode
 * @param {Uint8Array} output
 * @param {number} level of zlib, 1..9
 * @returns {{ consumed: number, length: number }} bytes encoded, and bytes they were encoded into; nothing when even a
 *   little does not fit
 * @see RFC 1951
 */
export function encodeDeflate(input, start, end, output, level) {
  const room = output.byteLength;
  const most = Math.min(end - start, room * MAX_RATIO);
  let best = { consumed: 0, length: 0 };
  let least = 0;
  let tooMuch = most + 1;
  let length = Math.min(most, room * 3);
  for (let tries = 0; tries < MAX_TRIES && length > least && length < tooMuch; tries += 1) {
    const stream = deflateRawSync(input.subarray(start, start + length), { level });
    if (stream.byteLength <= room) {
      // Zeros in front of a stream are padding, so one that starts with zeros cannot be told from it.
      if (stream[0] !== 0) {
        best = { consumed: length, length: stream.byteLength };
        output.set(stream);
      }
      least = length;
      if (length === most || stream.byteLength > room * GOOD_FILL) break;
    } else tooMuch = length;
    const guess = Math.min(most, Math.floor((length * room * 0.985) / stream.byteLength));
    const isInside = guess > least && guess < tooMuch;
    length = isInside ? guess : Math.floor((least + tooMuch) / 2);
  }
  return best;
}
