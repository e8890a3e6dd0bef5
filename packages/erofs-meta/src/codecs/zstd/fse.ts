import { type BackwardBits, ForwardBits, ZstdDamage } from "./bits.ts";

/** A decoding table of finite state entropy: for each state its symbol and the way to the next one. */
export interface FseTable {
  /** states are below two to the power of this */
  readonly log: number;
  readonly symbols: Uint8Array;
  /** bits to read for the next state, and what to add them to */
  readonly bits: Uint8Array;
  readonly bases: Uint16Array;
}

/**
 * Reads a table's description.
 *
 * @returns The table, and where the description ends.
 * @see RFC 8878, section 4.1.1, "FSE Table Description"
 */
export function readFseTable(
  bytes: Uint8Array,
  start: number,
  limits: { readonly log: number; readonly symbols: number },
): { table: FseTable; end: number } {
  const bits = new ForwardBits(bytes, start);
  const log = bits.read(4) + 5;
  if (log > limits.log) throw new ZstdDamage(`expected a table of at most 2^${limits.log} states, got 2^${log}`);
  const counts: number[] = [];
  for (let left = 2 ** log; left > 0; ) {
    // Values take a bit less where the highest ones cannot occur any more.
    const width = 32 - Math.clz32(left + 1);
    const low = 2 ** (width - 1) - 1;
    const threshold = 2 ** width - 2 - left;
    let value = bits.read(width);
    if ((value & low) < threshold) {
      bits.unread(1);
      value &= low;
    } else if (value > low) value -= threshold;
    const count = value - 1;
    left -= Math.abs(count);
    counts.push(count);
    if (count === 0) {
      for (let more = 3; more === 3; ) {
        more = bits.read(2);
        for (let index = 0; index < more; index += 1) counts.push(0);
      }
    }
    if (left < 0 || counts.length > limits.symbols) {
      throw new ZstdDamage(`expected at most ${limits.symbols} symbols that share 2^${log} states, got more`);
    }
  }
  return { table: fseTable(counts, log), end: bits.end };
}

/** Spreads symbols over states by how often they occur; -1 is less than once. */
export function fseTable(counts: readonly number[], log: number): FseTable {
  const size = 2 ** log;
  const table = { log, symbols: new Uint8Array(size), bits: new Uint8Array(size), bases: new Uint16Array(size) };
  const next = counts.map((count) => Math.abs(count));
  let high = size;
  for (const [symbol, count] of counts.entries()) {
    if (count === -1) {
      high -= 1;
      table.symbols[high] = symbol;
    }
  }
  const step = (size >>> 1) + (size >>> 3) + 3;
  let position = 0;
  for (const [symbol, count] of counts.entries()) {
    for (let left = count; left > 0; left -= 1) {
      table.symbols[position] = symbol;
      do position = (position + step) & (size - 1);
      while (position >= high);
    }
  }
  for (let state = 0; state < size; state += 1) {
    const symbol = table.symbols[state] as number;
    const number = next[symbol] as number;
    next[symbol] = number + 1;
    const bits = log - (31 - Math.clz32(number));
    table.bits[state] = bits;
    table.bases[state] = number * 2 ** bits - size;
  }
  return table;
}

/** A table of one symbol, which takes no bits. */
export function singleSymbol(symbol: number): FseTable {
  return { log: 0, symbols: Uint8Array.of(symbol), bits: new Uint8Array(1), bases: new Uint16Array(1) };
}

/** Goes from state to state. */
export class FseState {
  readonly #table: FseTable;
  readonly #bits: BackwardBits;
  #state: number;

  constructor(table: FseTable, bits: BackwardBits) {
    this.#table = table;
    this.#bits = bits;
    this.#state = bits.read(table.log);
  }

  get symbol(): number {
    return this.#table.symbols[this.#state] as number;
  }

  advance(): void {
    const { bits, bases } = this.#table;
    this.#state = (bases[this.#state] as number) + this.#bits.read(bits[this.#state] as number);
  }
}
