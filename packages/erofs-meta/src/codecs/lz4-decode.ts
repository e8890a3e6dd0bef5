import { ErofsError } from "../errors.ts";
import { LONG_LENGTH, MIN_MATCH } from "../format/lz4.js";

/** Below this, a loop over bytes beats the set-up of a call. */
const CALL_SIZE = 32;

/**
 * Decodes one LZ4 block until `output` is full; what may follow in `input` is not looked at, which is what a reference
 * to the first part of an extent needs.
 *
 * @param offset - Position of `input` in the image, used in errors.
 * @see LZ4 Block Format Description, 1.6.x `doc/lz4_Block_format.md`
 */
export function decodeLz4(input: Uint8Array, output: Uint8Array, offset: number): void {
  const inputEnd = input.byteLength;
  const outputEnd = output.byteLength;
  let from = 0;
  let to = 0;
  while (to < outputEnd) {
    if (from >= inputEnd) throw truncated(offset + from, outputEnd - to);
    const token = input[from++] as number;

    let literals = token >>> 4;
    if (literals === LONG_LENGTH) {
      for (let more = 255; more === 255; literals += more) {
        if (from >= inputEnd) throw truncated(offset + from, outputEnd - to);
        more = input[from++] as number;
      }
    }
    if (literals > outputEnd - to) literals = outputEnd - to;
    if (literals > inputEnd - from) throw truncated(offset + from, outputEnd - to);
    if (literals < CALL_SIZE) for (let left = literals; left > 0; left -= 1) output[to++] = input[from++] as number;
    else {
      output.set(input.subarray(from, from + literals), to);
      from += literals;
      to += literals;
    }
    if (to === outputEnd) return;

    if (inputEnd - from < 2) throw truncated(offset + from, outputEnd - to);
    const distance = (input[from] as number) | ((input[from + 1] as number) << 8);
    if (distance === 0 || distance > to) {
      throw new ErofsError("EROFS_CORRUPT", `expected a match 1..${to} bytes back, got ${distance}`, {
        offset: offset + from,
      });
    }
    from += 2;
    let length = (token & LONG_LENGTH) + MIN_MATCH;
    if (length === LONG_LENGTH + MIN_MATCH) {
      for (let more = 255; more === 255; length += more) {
        if (from >= inputEnd) throw truncated(offset + from, outputEnd - to);
        more = input[from++] as number;
      }
    }
    if (length > outputEnd - to) length = outputEnd - to;
    if (distance >= length && length >= CALL_SIZE) {
      output.copyWithin(to, to - distance, to - distance + length);
      to += length;
    } else if (distance === 1 && length >= CALL_SIZE) {
      output.fill(output[to - 1] as number, to, to + length);
      to += length;
    } else for (let left = length; left > 0; left -= 1, to += 1) output[to] = output[to - distance] as number;
  }
}

function truncated(offset: number, missing: number): ErofsError {
  return new ErofsError("EROFS_CORRUPT", `expected lz4 data for ${missing} more bytes, got the end of it`, { offset });
}
