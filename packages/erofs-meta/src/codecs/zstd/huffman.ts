import { BackwardBits, ZstdDamage } from "./bits.ts";
import { FseState, readFseTable } from "./fse.ts";

const MAX_BITS = 11;
const MAX_SYMBOLS = 256;
const MAX_WEIGHT_TABLE_LOG = 6;
/** First byte of a description: from here on it counts weights of four bits, below it bytes of compressed ones. */
const DIRECT_WEIGHTS = 128;

/** A decoding table: for every value of the next bits the symbol, and how many of them it takes. */
export interface HuffmanTable {
  readonly log: number;
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
}

/**
 * Reads the description of a Huffman tree.
 *
 * @returns The table, and where the description ends.
 * @see RFC 8878, section 4.2.1
 */
export function readHuffmanTable(bytes: Uint8Array, start: number): { table: HuffmanTable; end: number } {
  const head = bytes[start];
  if (head === undefined) throw new ZstdDamage("expected a Huffman tree, got nothing");
  if (head >= DIRECT_WEIGHTS) {
    const count = head - DIRECT_WEIGHTS + 1;
    const end = start + 1 + Math.ceil(count / 2);
    if (end > bytes.byteLength) throw new ZstdDamage("expected the weights of a Huffman tree, got the end");
    const weights = Array.from({ length: count }, (_, index) => {
      const pair = bytes[start + 1 + (index >>> 1)] as number;
      return index % 2 === 0 ? pair >>> 4 : pair & 0xf;
    });
    return { table: huffmanTable(weights), end };
  }
  const end = start + 1 + head;
  if (end > bytes.byteLength) throw new ZstdDamage("expected the weights of a Huffman tree, got the end");
  return { table: huffmanTable(decodeWeights(bytes.subarray(start + 1, end))), end };
}

/** Two states take turns until the bits run out. */
function decodeWeights(bytes: Uint8Array): number[] {
  const { table, end } = readFseTable(bytes, 0, { log: MAX_WEIGHT_TABLE_LOG, symbols: MAX_BITS + 2 });
  const bits = new BackwardBits(bytes.subarray(end));
  let [one, other] = [new FseState(table, bits), new FseState(table, bits)];
  const weights: number[] = [];
  while (weights.length < MAX_SYMBOLS) {
    weights.push(one.symbol);
    one.advance();
    if (bits.left < 0) {
      weights.push(other.symbol);
      return weights;
    }
    [one, other] = [other, one];
  }
  throw new ZstdDamage(`expected at most ${MAX_SYMBOLS} weights, got more`);
}

/** The last weight is not stored: it is what makes the tree complete. */
function huffmanTable(stored: readonly number[]): HuffmanTable {
  const sum = stored.reduce((total, weight) => total + (weight === 0 ? 0 : 2 ** (weight - 1)), 0);
  const log = sum === 0 ? 0 : 32 - Math.clz32(sum);
  const missing = 2 ** log - sum;
  if (sum === 0 || log > MAX_BITS || stored.length >= MAX_SYMBOLS || (missing & (missing - 1)) !== 0) {
    throw new ZstdDamage("expected weights of a complete Huffman tree, got others");
  }
  const weights = [...stored, 32 - Math.clz32(missing)];
  const table = { log, symbols: new Uint8Array(2 ** log), bits: new Uint8Array(2 ** log) };
  let at = 0;
  for (let weight = 1; weight <= log; weight += 1) {
    for (const [symbol, own] of weights.entries()) {
      if (own !== weight) continue;
      const end = at + 2 ** (weight - 1);
      table.symbols.fill(symbol, at, end);
      table.bits.fill(log + 1 - weight, at, end);
      at = end;
    }
  }
  return table;
}

/** Decodes one stream, which has to end with the output. */
export function decodeHuffman({ log, symbols, bits }: HuffmanTable, input: Uint8Array, output: Uint8Array): void {
  const stream = new BackwardBits(input);
  const mask = 2 ** log - 1;
  let value = stream.read(log);
  for (let at = 0; at < output.byteLength; at += 1) {
    output[at] = symbols[value] as number;
    const count = bits[value] as number;
    value = ((value << count) & mask) | stream.read(count);
  }
  if (stream.left !== -log) throw new ZstdDamage("expected a Huffman stream that ends with its symbols, got another");
}
