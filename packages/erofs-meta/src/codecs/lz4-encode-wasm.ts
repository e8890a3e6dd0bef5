import { LAST_LITERALS, LONG_LENGTH, MATCH_MARGIN, MAX_DISTANCE, MIN_MATCH } from "../format/lz4.js";
import { HASH_BITS, RESERVE, SKIP_SHIFT } from "./lz4-encode.js";
import { LZ4_CONSUMED_ADDRESS as CONSUMED } from "./lz4-encoder.js";
import { type Code, compileWasm, wasm } from "./wasm-assembler.ts";

const { get, set, tee, i32, load8, load32, load64, store8, store16, store32, store64, sameBytes } = wasm;
const { eqz, eq, ne, ltS, ltU, gtU, geU, add, sub, mul, divU, or, shl, shrU } = wasm;

// Parameters, then locals.
const START = 0;
const END = 1;
const TO = 2;
const ROOM_END = 3;
const ANCHOR = 4;
const AT = 5;
const MISSES = 6;
const WORD = 7;
const SLOT = 8;
const CANDIDATE = 9;
const FROM = 10;
const STOP = 11;
const LITERALS = 12;
const LENGTH = 13;
const REST = 14;
const SOURCE = 15;
const COPIED = 16;
const OUTPUT = 17;

const HASH_FACTOR = 0x9e3779b1 | 0;

const advance = (local: number, by: number): Code => [get(local), i32(by), add, set(local)];

/** The place in the table of positions, at the start of memory, for the word on the stack. */
const slotOfWord: Code = [i32(HASH_FACTOR), mul, i32(32 - HASH_BITS), shrU, i32(2), shl];

/** Bytes that a length takes besides its four bits. */
const longBytes = (length: number): Code => [
  [i32(0), set(REST)],
  [get(length), i32(LONG_LENGTH), geU],
  wasm.if([get(length), i32(LONG_LENGTH), sub, i32(255), divU, i32(1), add, set(REST)]),
  get(REST),
];

const putLong = (length: number): Code => [
  [get(length), i32(LONG_LENGTH), geU],
  wasm.if([
    [get(length), i32(LONG_LENGTH), sub, set(REST)],
    wasm.block(
      wasm.loop(
        [get(REST), i32(255), ltU, wasm.brIf(1)],
        [get(TO), i32(255), store8()],
        advance(TO, 1),
        advance(REST, -255),
        wasm.br(0),
      ),
    ),
    [get(TO), get(REST), store8()],
    advance(TO, 1),
  ]),
];

const field = (length: number): Code => [
  [get(length), set(REST)],
  [get(REST), i32(LONG_LENGTH), gtU, wasm.if([i32(LONG_LENGTH), set(REST)])],
  get(REST),
];

/** A token with its literals, copied by words that may go over the end of them. */
const putSequence: Code = [
  [get(TO), field(LITERALS), i32(4), shl, field(LENGTH), or, store8()],
  advance(TO, 1),
  putLong(LITERALS),
  [get(ANCHOR), set(SOURCE)],
  [get(TO), get(LITERALS), add, set(COPIED)],
  wasm.block(
    wasm.loop(
      [get(TO), get(COPIED), geU, wasm.brIf(1)],
      [get(TO), get(SOURCE), load64(), store64()],
      advance(TO, 8),
      advance(SOURCE, 8),
      wasm.br(0),
    ),
  ),
  [get(COPIED), set(TO)],
];

/** Leaves the loop it stands in, and the block around that, when there is nothing more to find. */
const findMatch: Code = wasm.block(
  wasm.loop(
    [get(AT), get(END), i32(MATCH_MARGIN), sub, gtU, wasm.brIf(3)],
    [get(TO), get(AT), add, get(ANCHOR), sub, i32(RESERVE), add, get(ROOM_END), gtU, wasm.brIf(3)],
    [get(AT), load32(), tee(WORD), slotOfWord, tee(SLOT), load32(), set(CANDIDATE)],
    [get(SLOT), get(AT), store32()],
    // A candidate is in this extent and near enough, and starts with the same four bytes.
    wasm.block(
      [get(CANDIDATE), get(START), ltU, wasm.brIf(0)],
      [get(CANDIDATE), get(AT), geU, wasm.brIf(0)],
      [get(AT), get(CANDIDATE), sub, i32(MAX_DISTANCE), gtU, wasm.brIf(0)],
      [get(CANDIDATE), load32(), get(WORD), ne, wasm.brIf(0)],
      wasm.br(2),
    ),
    advance(MISSES, 1),
    [get(AT), get(MISSES), i32(SKIP_SHIFT), shrU, add, i32(1), add, set(AT)],
    wasm.br(0),
  ),
);

const extendBack: Code = [
  [get(AT), set(FROM)],
  wasm.block(
    wasm.loop(
      [get(FROM), get(ANCHOR), eq, wasm.brIf(1)],
      [get(CANDIDATE), get(START), eq, wasm.brIf(1)],
      [get(FROM), i32(-1), add, load8(), get(CANDIDATE), i32(-1), add, load8(), ne, wasm.brIf(1)],
      advance(FROM, -1),
      advance(CANDIDATE, -1),
      wasm.br(0),
    ),
  ),
];

const extendAhead: Code = [
  [get(AT), i32(MIN_MATCH), add, set(STOP)],
  wasm.block(
    wasm.loop(
      [get(STOP), get(END), i32(LAST_LITERALS), sub, geU, wasm.brIf(1)],
      [get(STOP), load64(), get(STOP), get(FROM), sub, get(CANDIDATE), add, load64(), sameBytes, tee(LENGTH)],
      [get(STOP), add, set(STOP)],
      [get(LENGTH), i32(8), eq, wasm.brIf(0)],
    ),
  ),
  [get(STOP), get(END), i32(LAST_LITERALS), sub, gtU],
  wasm.if([get(END), i32(LAST_LITERALS), sub, set(STOP)]),
];

const body: Code = [
  [get(TO), set(OUTPUT)],
  [get(START), tee(ANCHOR), set(AT)],
  wasm.block(
    wasm.loop(
      findMatch,
      [i32(0), set(MISSES)],
      extendBack,
      extendAhead,
      [get(FROM), get(ANCHOR), sub, set(LITERALS)],
      // A match whose length does not fit any more is made as long as fits.
      [get(ROOM_END), get(TO), sub, get(LITERALS), sub, longBytes(LITERALS), sub, i32(3 + RESERVE), sub, set(REST)],
      [get(REST), i32(0), ltS, wasm.brIf(1)],
      [get(STOP), get(FROM), sub, i32(MIN_MATCH), sub, set(LENGTH)],
      [get(REST), i32(255), mul, i32(LONG_LENGTH - 1), add, tee(REST), get(LENGTH), ltU],
      wasm.if([get(REST), set(LENGTH)]),
      putSequence,
      [get(TO), get(FROM), get(CANDIDATE), sub, store16()],
      advance(TO, 2),
      putLong(LENGTH),
      [get(FROM), get(LENGTH), add, i32(MIN_MATCH), add, tee(AT), set(ANCHOR)],
      [get(AT), i32(-2), add, tee(SOURCE), get(START), gtU],
      wasm.if([
        [get(AT), get(END), i32(MATCH_MARGIN), sub, gtU],
        wasm.if([], [get(SOURCE), load32(), slotOfWord, get(SOURCE), store32()]),
      ]),
      wasm.br(0),
    ),
  ),
  // The rest, as far as there is room, is the literals that every block ends with.
  [get(ROOM_END), get(TO), sub, i32(1), sub, set(STOP)],
  [get(END), get(ANCHOR), sub, set(LITERALS)],
  [get(LITERALS), get(STOP), gtU, wasm.if([get(STOP), set(LITERALS)])],
  wasm.block(
    wasm.loop(
      [get(LITERALS), longBytes(LITERALS), add, get(STOP), gtU, eqz, wasm.brIf(1)],
      advance(LITERALS, -1),
      wasm.br(0),
    ),
  ),
  [i32(0), set(LENGTH)],
  putSequence,
  [i32(CONSUMED), get(ANCHOR), get(LITERALS), add, get(START), sub, store32()],
  [get(TO), get(OUTPUT), sub],
];

/**
 * Compiles what `lz4-encode.js` does, to the byte, in WebAssembly: there it takes a third of the time.
 *
 * @returns a module for `lz4Encoder`; undefined where there is no WebAssembly.
 */
export function compileLz4Encoder(): object | undefined {
  return compileWasm({ name: "encode", parameters: 4, locals: 14, body });
}
