import { BackwardBits, ZstdDamage } from "./bits.ts";
import { FseState, type FseTable, fseTable, readFseTable, singleSymbol } from "./fse.ts";

/** How codes of one kind are described: their tables, and the values they start from with the bits that are added. */
interface Kind {
  readonly maxLog: number;
  readonly usual: FseTable;
  readonly bases: readonly number[];
  readonly bits: readonly number[];
}

const times = (count: number, value: number): number[] => Array.from({ length: count }, () => value);
const upTo = (count: number, start = 0): number[] => Array.from({ length: count }, (_, index) => start + index);

// RFC 8878, sections 3.1.1.3.2.1.1 and 3.1.1.3.2.2.
const LITERAL_LENGTHS: Kind = {
  maxLog: 9,
  usual: fseTable([4, 3, ...times(11, 2), 1, 1, 1, ...times(9, 2), 3, 2, ...times(5, 1), ...times(4, -1)], 6),
  bases: [...upTo(16), 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, ...upTo(10).map((power) => 128 * 2 ** power)],
  bits: [...times(16, 0), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, ...upTo(10, 7)],
};
const MATCH_LENGTHS: Kind = {
  maxLog: 9,
  usual: fseTable([1, 4, 3, ...times(6, 2), ...times(37, 1), ...times(7, -1)], 6),
  bases: [
    ...upTo(32, 3),
    ...[35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99],
    ...upTo(10).map((power) => 128 * 2 ** power + 3),
  ],
  bits: [...times(32, 0), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, ...upTo(10, 7)],
};
const OFFSETS: Kind = {
  maxLog: 8,
  usual: fseTable([...times(6, 1), 2, 2, 2, ...times(15, 1), ...times(5, -1)], 5),
  bases: upTo(32).map((power) => 2 ** power),
  bits: upTo(32),
};

const MODE = { usual: 0, single: 1, described: 2 } as const;

/** What blocks take over from the ones before them. */
export interface SequenceState {
  tables: { literalLengths?: FseTable; offsets?: FseTable; matchLengths?: FseTable };
  /** the last three distances, the latest first */
  recent: [number, number, number];
}

/**
 * Decodes the sequences of a block: literals, then a copy of what came before, again and again.
 *
 * @param copy - Called for each sequence; says whether there is room for more.
 * @see RFC 8878, section 3.1.1.3.2
 */
export function decodeSequences(
  bytes: Uint8Array,
  state: SequenceState,
  copy: (literals: number, length: number, distance: number) => boolean,
): void {
  const [first = 0, second = 0, third = 0] = bytes;
  const headSize = first === 0 ? 1 : first < 128 ? 1 : first < 255 ? 2 : 3;
  const count = first < 128 ? first : first < 255 ? ((first - 128) << 8) | second : second + (third << 8) + 0x7f00;
  if (bytes.byteLength < headSize + (count === 0 ? 0 : 1)) throw new ZstdDamage("expected sequences, got the end");
  if (count === 0) return;
  const modes = bytes[headSize] as number;
  if ((modes & 3) !== 0) throw new ZstdDamage("expected reserved bits of zero, got others");
  let at = headSize + 1;
  const table = (kind: Kind, mode: number, before: FseTable | undefined): FseTable => {
    if (mode === MODE.usual) return kind.usual;
    if (mode === MODE.single) {
      const symbol = bytes[at];
      at += 1;
      if (symbol === undefined || symbol >= kind.bases.length) throw new ZstdDamage("expected a code, got none");
      return singleSymbol(symbol);
    }
    if (mode === MODE.described) {
      const found = readFseTable(bytes, at, { log: kind.maxLog, symbols: kind.bases.length });
      at = found.end;
      return found.table;
    }
    if (before === undefined) throw new ZstdDamage("expected a table to use again, got none");
    return before;
  };
  const literalLengths = table(LITERAL_LENGTHS, modes >>> 6, state.tables.literalLengths);
  const offsets = table(OFFSETS, (modes >>> 4) & 3, state.tables.offsets);
  const matchLengths = table(MATCH_LENGTHS, (modes >>> 2) & 3, state.tables.matchLengths);
  state.tables = { literalLengths, offsets, matchLengths };

  const bits = new BackwardBits(bytes.subarray(at));
  const literalState = new FseState(literalLengths, bits);
  const offsetState = new FseState(offsets, bits);
  const matchState = new FseState(matchLengths, bits);
  const value = ({ bases, bits: widths }: Kind, symbol: number): number =>
    (bases[symbol] as number) + bits.read(widths[symbol] as number);
  for (let left = count; left > 0; left -= 1) {
    const offset = value(OFFSETS, offsetState.symbol);
    const length = value(MATCH_LENGTHS, matchState.symbol);
    const literals = value(LITERAL_LENGTHS, literalState.symbol);
    if (left > 1) {
      literalState.advance();
      matchState.advance();
      offsetState.advance();
    }
    if (bits.left < 0) throw new ZstdDamage("expected more bits of sequences, got the end of them");
    if (!copy(literals, length, distanceOf(offset, literals === 0, state))) return;
  }
  if (bits.left !== 0) throw new ZstdDamage("expected bits that end with the sequences, got more");
}

/** The lowest three offsets stand for distances used lately; without literals the latest one would make no sense. */
function distanceOf(offset: number, hasNoLiterals: boolean, state: SequenceState): number {
  const [latest, second, third] = state.recent;
  if (offset > 3) {
    state.recent = [offset - 3, latest, second];
    return offset - 3;
  }
  const which = offset - (hasNoLiterals ? 0 : 1);
  if (which === 0) return latest;
  const distance = which === 1 ? second : which === 2 ? third : latest - 1;
  state.recent = which === 1 ? [second, latest, third] : [distance, latest, second];
  return distance;
}
