import { MAX_DECODED_EXTENT_SIZE, MAX_STORED_EXTENT_SIZE } from "../format/compression.ts";
import { type Code, compileWasm, instantiateWasm, type WasmMemory, wasm } from "./wasm-assembler.ts";

/** What the function answers. */
const OK = 0;
const DAMAGED = 1;

const PAGE_SIZE = 64 * 1024;
/** Copies go 16 bytes at a time and may go that far over an end. */
const SLACK = 16;
/** More than a sequence of short lengths reads or writes. */
const FAR = 64;

const { get, set, tee, i32, load8, load16, load64, store8, store16, store64 } = wasm;
const { eqz, eq, ltU, gtU, geU, add, sub, and, shrU } = wasm;

// Parameters, then locals.
const FROM = 0;
const INPUT_END = 1;
const TO = 2;
const OUTPUT_END = 3;
const OUTPUT_START = 4;
const TOKEN = 5;
const LENGTH = 6;
const MORE = 7;
const SOURCE = 8;
const END = 9;
const DISTANCE = 10;

const fail: Code = wasm.if([i32(DAMAGED), wasm.return]);
const advance = (local: number, by: number): Code => [get(local), i32(by), add, set(local)];

/** A length of 15 goes on in bytes that are added up, the last one being below 255. */
const longLength = (inField: number): Code => [
  get(LENGTH),
  i32(inField),
  eq,
  wasm.if([
    wasm.loop(
      [get(FROM), get(INPUT_END), geU, fail],
      [get(FROM), load8(), tee(MORE), get(LENGTH), add, set(LENGTH)],
      advance(FROM, 1),
      [get(MORE), i32(255), eq, wasm.brIf(0)],
    ),
  ]),
];

/** What an extent's first part is asked for may end inside of a sequence. */
const clipLength: Code = [
  [get(LENGTH), get(OUTPUT_END), get(TO), sub, gtU],
  wasm.if([get(OUTPUT_END), get(TO), sub, set(LENGTH)]),
  [get(TO), get(LENGTH), add, set(END)],
];

const copyWords = (size: 8 | 16): Code =>
  wasm.loop(
    [get(TO), get(SOURCE), load64(), store64()],
    size === 16 ? [get(TO), get(SOURCE), load64(8), store64(8)] : [],
    advance(SOURCE, size),
    advance(TO, size),
    [get(TO), get(END), ltU, wasm.brIf(0)],
  );

const copyBytes: Code = wasm.loop([get(TO), get(SOURCE), load8(), store8()], advance(SOURCE, 1), advance(TO, 1), [
  get(TO),
  get(END),
  ltU,
  wasm.brIf(0),
]);

const returnIfFull: Code = [get(TO), get(OUTPUT_END), eq, wasm.if([i32(OK), wasm.return])];

const literals: Code = [
  longLength(15),
  clipLength,
  [get(LENGTH), get(INPUT_END), get(FROM), sub, gtU, fail],
  [get(FROM), set(SOURCE)],
  [get(LENGTH), wasm.if([copyWords(16)])],
  [get(FROM), get(LENGTH), add, set(FROM)],
  [get(END), set(TO)],
  returnIfFull,
];

/**
 * A sequence of short lengths, far from both ends, without loops; most are. Leaves the block it stands in for all others,
 * and the one around that with only the match to be done. Words of 8 bytes are stored before the next one is loaded, which
 * may overlap them.
 */
const shortSequence: Code = [
  [get(LENGTH), i32(15), eq, wasm.brIf(0)],
  [get(INPUT_END), get(FROM), sub, i32(FAR), ltU, wasm.brIf(0)],
  [get(OUTPUT_END), get(TO), sub, i32(FAR), ltU, wasm.brIf(0)],
  [get(TO), get(FROM), load64(), store64()],
  [get(TO), get(FROM), load64(8), store64(8)],
  [get(FROM), get(LENGTH), add, set(FROM)],
  [get(TO), get(LENGTH), add, set(TO)],
  [get(TOKEN), i32(15), and, i32(15), eq, wasm.brIf(1)],
  [get(FROM), load16(), tee(DISTANCE), i32(8), ltU, wasm.brIf(1)],
  [get(DISTANCE), get(TO), get(OUTPUT_START), sub, gtU, fail],
  advance(FROM, 2),
  [get(TO), get(DISTANCE), sub, set(SOURCE)],
  [get(TO), get(SOURCE), load64(), store64()],
  [get(TO), get(SOURCE), load64(8), store64(8)],
  [get(TO), get(SOURCE), load16(16), store16(16)],
  [get(TOKEN), i32(15), and, i32(4), add, get(TO), add, set(TO)],
];

const body: Code = [
  [get(TO), set(OUTPUT_START)],
  wasm.loop(
    [get(FROM), get(INPUT_END), geU, fail],
    [get(FROM), load8(), tee(TOKEN), i32(4), shrU, set(LENGTH)],
    advance(FROM, 1),
    wasm.block(wasm.block(shortSequence, wasm.br(2)), literals),

    [get(INPUT_END), get(FROM), sub, i32(2), ltU, fail],
    [get(FROM), load16(), set(DISTANCE)],
    advance(FROM, 2),
    [get(DISTANCE), eqz, fail],
    [get(DISTANCE), get(TO), get(OUTPUT_START), sub, gtU, fail],
    [get(TO), get(DISTANCE), sub, set(SOURCE)],
    [get(TOKEN), i32(15), and, set(LENGTH)],
    longLength(15),
    advance(LENGTH, 4),
    clipLength,
    // What a copy reads must not be what it has just written over too far.
    [get(DISTANCE), i32(16), geU],
    wasm.if(
      [copyWords(16)],
      [
        [get(DISTANCE), i32(8), geU],
        wasm.if(
          [copyWords(8)],
          [[get(DISTANCE), i32(1), eq], wasm.if([get(TO), get(SOURCE), load8(), get(LENGTH), wasm.fill], [copyBytes])],
        ),
      ],
    ),
    [get(END), set(TO)],
    returnIfFull,
    wasm.br(0),
  ),
  i32(DAMAGED),
];

/** Where things are in a decoder's memory, of which only what is used takes room: input, output that stays, output that goes. */
const KEPT_START = MAX_STORED_EXTENT_SIZE + SLACK;
const PASSING_START = KEPT_START + MAX_DECODED_EXTENT_SIZE + SLACK;
const MEMORY_SIZE = PASSING_START + MAX_DECODED_EXTENT_SIZE + SLACK;

interface Instance {
  readonly memory: WasmMemory;
  decode(from: number, inputEnd: number, to: number, outputEnd: number): number;
}

/** Made when it is first needed, which takes milliseconds, so that all decoders share it. */
let shared: { readonly decode: Instance["decode"]; readonly bytes: Uint8Array } | undefined;
/** Whose the output is that stays. */
let holder: Lz4Decoder | undefined;

/** Decodes LZ4 blocks in WebAssembly, some five times as fast as JavaScript does. */
export class Lz4Decoder {
  /**
   * Memory that is decoded into without a copy, valid until the next call.
   *
   * @returns undefined where there is none of that length, or another decoder has it.
   */
  memory(length: number): Uint8Array | undefined {
    shared ??= start();
    holder ??= this;
    if (holder !== this || length > MAX_DECODED_EXTENT_SIZE) return undefined;
    return shared?.bytes.subarray(KEPT_START, KEPT_START + length);
  }

  /** Lets another decoder have the memory. */
  release(): void {
    if (holder === this) holder = undefined;
  }

  /**
   * Decodes one block.
   *
   * @returns whether it could; where it could not, `output` may have anything in it.
   */
  decode(input: Uint8Array, output: Uint8Array): boolean {
    if (output.byteLength === 0) return true;
    if (input.byteLength > MAX_STORED_EXTENT_SIZE || output.byteLength > MAX_DECODED_EXTENT_SIZE) return false;
    shared ??= start();
    if (shared === undefined) return false;
    const { bytes, decode } = shared;
    bytes.set(input);
    const isKept = output.buffer === bytes.buffer;
    const from = isKept ? output.byteOffset : PASSING_START;
    const end = from + output.byteLength;
    if (decode(0, input.byteLength, from, end) !== OK) return false;
    if (!isKept) output.set(bytes.subarray(from, end));
    return true;
  }
}

function start(): typeof shared {
  const pages = Math.ceil(MEMORY_SIZE / PAGE_SIZE);
  const module = compileWasm({ name: "decode", pages, parameters: 4, locals: 7, body });
  const instance = module === undefined ? undefined : instantiateWasm<Instance>(module);
  return instance && { decode: instance.decode, bytes: new Uint8Array(instance.memory.buffer) };
}
