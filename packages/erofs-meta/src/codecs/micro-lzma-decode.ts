import { ErofsError } from "../errors.ts";

const PROBABILITY_BITS = 11;
const EVEN = 2 ** (PROBABILITY_BITS - 1);
const MOVE_BITS = 5;
const TOP = 2 ** 24;

const STATES = 12;
const POSITION_STATES = 16;
const LITERAL_PROBABILITIES = 0x300;
/** Limit of liblzma and of Linux, which bounds the table of literals. */
const MAX_LITERAL_BITS = 4;
const MAX_PROPERTIES = 225;
const MIN_MATCH = 2;

// Where the probabilities of each kind start in the one table of them.
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POSITION_STATES;
const IS_REP_0 = IS_REP + STATES;
const IS_REP_1 = IS_REP_0 + STATES;
const IS_REP_2 = IS_REP_1 + STATES;
const IS_REP_0_LONG = IS_REP_2 + STATES;
const DISTANCE_SLOT = IS_REP_0_LONG + STATES * POSITION_STATES;
const DISTANCE_SPECIAL = DISTANCE_SLOT + 4 * 64;
const DISTANCE_ALIGN = DISTANCE_SPECIAL + 128;
const MATCH_LENGTH = DISTANCE_ALIGN + 16;
const LENGTH_LOW = 2;
const LENGTH_MIDDLE = LENGTH_LOW + POSITION_STATES * 8;
const LENGTH_HIGH = LENGTH_MIDDLE + POSITION_STATES * 8;
const REP_LENGTH = MATCH_LENGTH + LENGTH_HIGH + 256;
const LITERALS = REP_LENGTH + LENGTH_HIGH + 256;

/**
 * Decodes MicroLZMA until `output` is full: an LZMA stream without header and end marker, whose first byte, which in
 * LZMA is zero, has the properties instead, inverted.
 *
 * @param offset - Position of `input` in the image, used in errors.
 * @see LZMA Specification (7-Zip 23.01, `DOC/lzma-specification.txt`); xz 5.4 `doc/lzma-file-format.txt`;
 *   liblzma `microlzma_decoder.c` for the first byte
 */
export function decodeMicroLzma(input: Uint8Array, output: Uint8Array, offset: number): void {
  if (output.byteLength === 0) return;
  const properties = ~(input[0] ?? 0) & 0xff;
  const lc = properties % 9;
  const lp = Math.floor(properties / 9) % 5;
  const pb = Math.floor(properties / 45);
  if (input.byteLength < 5 || properties >= MAX_PROPERTIES || lc + lp > MAX_LITERAL_BITS) {
    throw new ErofsError("EROFS_CORRUPT", `expected MicroLZMA with lc + lp <= 4, got properties ${properties}`, {
      offset,
    });
  }
  const probabilities = new Uint16Array(LITERALS + (LITERAL_PROBABILITIES << (lc + lp))).fill(EVEN);
  const range = new RangeDecoder(input, probabilities, offset);
  const literalMask = 2 ** lp - 1;
  const positionMask = 2 ** pb - 1;
  const end = output.byteLength;
  let state = 0;
  let rep0 = 0;
  let rep1 = 0;
  let rep2 = 0;
  let rep3 = 0;
  for (let to = 0; to < end; ) {
    const positionState = to & positionMask;
    if (range.bit(IS_MATCH + state * POSITION_STATES + positionState) === 0) {
      const before = to === 0 ? 0 : (output[to - 1] as number);
      const table = LITERALS + LITERAL_PROBABILITIES * (((to & literalMask) << lc) + (before >>> (8 - lc)));
      // Behind a match the byte that would have continued it is a good guess of what this one is not.
      output[to] = state < 7 ? range.tree(table, 8) : range.matchedLiteral(table, output[to - rep0 - 1] as number);
      to += 1;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    let length: number;
    if (range.bit(IS_REP + state) === 0) {
      rep3 = rep2;
      rep2 = rep1;
      rep1 = rep0;
      length = range.length(MATCH_LENGTH, positionState);
      rep0 = range.distance(Math.min(length, 3));
      state = state < 7 ? 7 : 10;
    } else {
      let isShort = false;
      if (range.bit(IS_REP_0 + state) === 0) {
        isShort = range.bit(IS_REP_0_LONG + state * POSITION_STATES + positionState) === 0;
      } else {
        let distance = rep1;
        if (range.bit(IS_REP_1 + state) !== 0) {
          distance = rep2;
          if (range.bit(IS_REP_2 + state) !== 0) {
            distance = rep3;
            rep3 = rep2;
          }
          rep2 = rep1;
        }
        rep1 = rep0;
        rep0 = distance;
      }
      length = isShort ? 1 - MIN_MATCH : range.length(REP_LENGTH, positionState);
      state = isShort ? (state < 7 ? 9 : 11) : state < 7 ? 8 : 11;
    }
    if (rep0 >= to) {
      throw new ErofsError("EROFS_CORRUPT", `expected a match 1..${to} bytes back, got ${rep0 + 1}`, { offset });
    }
    const stop = Math.min(end, to + length + MIN_MATCH);
    for (let from = to - rep0 - 1; to < stop; from += 1, to += 1) output[to] = output[from] as number;
  }
}

/** Decodes bits by their probabilities, which learn from what they see. */
class RangeDecoder {
  readonly #input: Uint8Array;
  readonly #probabilities: Uint16Array;
  readonly #offset: number;
  #at = 5;
  #range = 0xffffffff;
  #code: number;

  constructor(input: Uint8Array, probabilities: Uint16Array, offset: number) {
    this.#input = input;
    this.#probabilities = probabilities;
    this.#offset = offset;
    this.#code = new DataView(input.buffer, input.byteOffset).getUint32(1);
  }

  bit(index: number): number {
    if (this.#range < TOP) this.#normalize();
    const probability = this.#probabilities[index] as number;
    const bound = (this.#range >>> PROBABILITY_BITS) * probability;
    if (this.#code < bound) {
      this.#range = bound;
      this.#probabilities[index] = probability + ((2 ** PROBABILITY_BITS - probability) >>> MOVE_BITS);
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    this.#probabilities[index] = probability - (probability >>> MOVE_BITS);
    return 1;
  }

  /** A number of `bits` bits, the highest first, each with probabilities of its own for what came before. */
  tree(start: number, bits: number): number {
    let node = 1;
    for (let left = bits; left > 0; left -= 1) node = (node << 1) | this.bit(start + node);
    return node - (1 << bits);
  }

  matchedLiteral(table: number, guess: number): number {
    let node = 1;
    let expected = guess;
    while (node < 0x100) {
      const expectedBit = (expected >>> 7) & 1;
      expected <<= 1;
      const bit = this.bit(table + ((1 + expectedBit) << 8) + node);
      node = (node << 1) | bit;
      if (bit !== expectedBit) break;
    }
    while (node < 0x100) node = (node << 1) | this.bit(table + node);
    return node & 0xff;
  }

  /** A match length, less the shortest one there is. */
  length(table: number, positionState: number): number {
    if (this.bit(table) === 0) return this.tree(table + LENGTH_LOW + positionState * 8, 3);
    if (this.bit(table + 1) === 0) return 8 + this.tree(table + LENGTH_MIDDLE + positionState * 8, 3);
    return 16 + this.tree(table + LENGTH_HIGH, 8);
  }

  /** A match distance, less one. */
  distance(lengthState: number): number {
    const slot = this.tree(DISTANCE_SLOT + lengthState * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >>> 1) - 1;
    const base = (2 | (slot & 1)) * 2 ** bits;
    if (slot < 14) return base + this.#reverseTree(DISTANCE_SPECIAL + base - slot, bits);
    return base + this.#directBits(bits - 4) * 16 + this.#reverseTree(DISTANCE_ALIGN, 4);
  }

  /** As `tree`, the lowest bit first. */
  #reverseTree(start: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let index = 0; index < bits; index += 1) {
      const bit = this.bit(start + node);
      node = (node << 1) | bit;
      value |= bit << index;
    }
    return value;
  }

  /** Bits that are as often 0 as 1. */
  #directBits(count: number): number {
    let value = 0;
    for (let left = count; left > 0; left -= 1) {
      if (this.#range < TOP) this.#normalize();
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit === 1) this.#code -= this.#range;
      value = value * 2 + bit;
    }
    return value;
  }

  #normalize(): void {
    const byte = this.#input[this.#at];
    if (byte === undefined) {
      throw new ErofsError("EROFS_CORRUPT", "expected more lzma data, got the end of it", {
        offset: this.#offset + this.#at,
      });
    }
    this.#at += 1;
    this.#range = (this.#range << 8) >>> 0;
    this.#code = ((this.#code << 8) | byte) >>> 0;
  }
}
