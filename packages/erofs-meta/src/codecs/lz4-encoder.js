// JavaScript, not TypeScript: worker threads of Node 20 start from it both in the sources and in the built package.
import { encodeLz4, LZ4_TABLE_SIZE } from "./lz4-encode.js";

/**
 * @typedef {object} Lz4Encoder
 * @property {(input: Uint8Array) => void} begin takes bytes of which parts will be encoded, front to back
 * @property {(start: number, end: number, output: Uint8Array) => { consumed: number, length: number }} encode as
 *   `encodeLz4`
 */

/**
 * @typedef {object} Lz4Exports
 * @property {{ readonly buffer: ArrayBuffer, grow(pages: number): number }} memory
 * @property {(start: number, end: number, to: number, roomEnd: number) => number} encode answers the encoded length
 */

// Memory of the WebAssembly module: the table of positions, what was consumed, the output, the input.
const TABLE_BYTES = LZ4_TABLE_SIZE * 4;
/** Where the module leaves how much it has consumed. */
export const LZ4_CONSUMED_ADDRESS = TABLE_BYTES;
const OUTPUT = TABLE_BYTES + 16;
/** Bytes are read and written by words, which may go over an end. */
const SLACK = 16;
const PAGE_SIZE = 65536;

/**
 * Makes an encoder, which has memory of its own.
 *
 * @param {object | undefined} module what `compileLz4Encoder` has made; undefined to do without
 * @param {number} room most bytes of an output
 * @returns {Lz4Encoder}
 */
export function lz4Encoder(module, room) {
  return module === undefined ? plainEncoder() : fastEncoder(module, room);
}

/** @returns {Lz4Encoder} */
function plainEncoder() {
  const table = new Int32Array(LZ4_TABLE_SIZE);
  /** @type {Uint8Array} */
  let bytes = new Uint8Array(0);
  let view = new DataView(bytes.buffer);
  return {
    begin(input) {
      bytes = input;
      view = new DataView(input.buffer, input.byteOffset, input.byteLength);
      table.fill(0);
    },
    encode: (start, end, output) => encodeLz4(bytes, view, start, end, output, table),
  };
}

/**
 * @param {object} module
 * @param {number} room
 * @returns {Lz4Encoder}
 */
function fastEncoder(module, room) {
  const { WebAssembly } = /** @type {{ WebAssembly: { Instance: new (module: object) => { exports: unknown } } }} */ (
    /** @type {unknown} */ (globalThis)
  );
  const { memory, encode } = /** @type {Lz4Exports} */ (new WebAssembly.Instance(module).exports);
  const first = OUTPUT + room + SLACK;
  let bytes = new Uint8Array(memory.buffer);
  let consumed = new Uint32Array(0);
  return {
    begin(input) {
      const needed = first + input.byteLength + SLACK;
      if (bytes.byteLength < needed) memory.grow(Math.ceil((needed - bytes.byteLength) / PAGE_SIZE));
      bytes = new Uint8Array(memory.buffer);
      consumed = new Uint32Array(memory.buffer, LZ4_CONSUMED_ADDRESS, 1);
      bytes.fill(0, 0, TABLE_BYTES);
      bytes.set(input, first);
    },
    encode(start, end, output) {
      const length = encode(first + start, first + end, OUTPUT, OUTPUT + output.byteLength);
      output.set(bytes.subarray(OUTPUT, OUTPUT + length));
      return { consumed: consumed[0] ?? 0, length };
    },
  };
}
