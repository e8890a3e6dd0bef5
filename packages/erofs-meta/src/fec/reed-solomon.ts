import { divide, evaluate, multiply, multiplyPolynomials, powerOfTwo, productsOf } from "./galois-field.ts";

/** Symbols of a codeword: data, then parity. */
export const CODEWORD_SIZE = 255;

/** Products with 2^root, for each root that was asked for. */
const SYNDROME_PRODUCTS: Uint8Array[] = [];

/** Finds the parity of many codewords at once: `rows[i][b]` is symbol i of codeword b. */
export class ParityEncoder {
  readonly #roots: number;
  /** for each coefficient of the generator but the leading one, highest first: its products with everything */
  readonly #products: readonly Uint8Array[];

  /** @param roots - Symbols of parity. */
  constructor(roots: number) {
    this.#roots = roots;
    this.#products = generator(roots).slice(0, -1).toReversed().map(productsOf);
  }

  /**
   * @param rows - Data symbols of all codewords, row after row.
   * @param codewords - Length of a row.
   * @returns Parity symbols, one codeword after the other.
   */
  encode(rows: Uint8Array, codewords: number): Uint8Array {
    const roots = this.#roots;
    const parity = new Uint8Array(codewords * roots);
    for (let row = 0; row < rows.byteLength; row += codewords) {
      for (let codeword = 0; codeword < codewords; codeword += 1) {
        const at = codeword * roots;
        // One step of dividing by the generator: what leaves the register at its high end is fed back everywhere.
        const feedback = (rows[row + codeword] ?? 0) ^ (parity[at] ?? 0);
        for (let root = 0; root < roots; root += 1) {
          const above = root + 1 < roots ? (parity[at + root + 1] ?? 0) : 0;
          parity[at + root] = above ^ (this.#products[root]?.[feedback] ?? 0);
        }
      }
    }
    return parity;
  }
}

/**
 * Corrects a codeword in place.
 *
 * @param codeword - 255 symbols, data first.
 * @param roots - Symbols of parity.
 * @param erasures - Positions known to be wrong; each costs one symbol of parity, every other wrong one two.
 * @returns How many symbols were changed; undefined when there are more errors than can be corrected, in which case the
 *   codeword is as it was.
 */
export function correct(codeword: Uint8Array, roots: number, erasures: readonly number[]): number | undefined {
  const syndromes = Array.from({ length: roots }, (_, root) => syndrome(codeword, root));
  if (syndromes.every((value) => value === 0)) return 0;
  if (erasures.length > roots) return undefined;
  const locator = errorLocator(syndromes, erasures.map(locatorOf));
  const positions = positionsOf(locator);
  // A locator with fewer roots than its degree stands for no set of errors.
  if (positions.length !== locator.length - 1) return undefined;
  const evaluator = multiplyPolynomials(syndromes, locator).slice(0, roots);
  const changes = positions.map((position) => [position, magnitude(evaluator, locator, locatorOf(position))] as const);
  const corrected = Uint8Array.from(codeword);
  for (const [position, value] of changes) corrected[position] = (corrected[position] ?? 0) ^ value;
  for (let root = 0; root < roots; root += 1) if (syndrome(corrected, root) !== 0) return undefined;
  codeword.set(corrected);
  return changes.filter(([, value]) => value !== 0).length;
}

/** The polynomial with the roots 2⁰, 2¹, …, constant coefficient first. */
function generator(roots: number): number[] {
  let polynomial = [1];
  for (let root = 0; root < roots; root += 1) polynomial = multiplyPolynomials(polynomial, [powerOfTwo(root), 1]);
  return polynomial;
}

/** The first symbol is the highest coefficient of the codeword's polynomial, which 2^root is a root of. */
function syndrome(codeword: Uint8Array, root: number): number {
  SYNDROME_PRODUCTS[root] ??= productsOf(powerOfTwo(root));
  const products = SYNDROME_PRODUCTS[root];
  let value = 0;
  for (const symbol of codeword) value = (products[value] ?? 0) ^ symbol;
  return value;
}

/** The number by which a position is known in polynomials. */
function locatorOf(position: number): number {
  return powerOfTwo(CODEWORD_SIZE - 1 - position);
}

/** Berlekamp's and Massey's algorithm, begun with the erasures. */
function errorLocator(syndromes: readonly number[], erasures: readonly number[]): number[] {
  let locator = [1];
  for (const erasure of erasures) locator = multiplyPolynomials(locator, [1, erasure]);
  let previous = locator;
  let errors = erasures.length;
  for (let step = erasures.length; step < syndromes.length; step += 1) {
    previous = [0, ...previous];
    let discrepancy = 0;
    for (const [index, coefficient] of locator.entries()) {
      discrepancy ^= multiply(coefficient, syndromes[step - index] ?? 0);
    }
    if (discrepancy === 0) continue;
    const next = addScaled(locator, previous, discrepancy);
    if (2 * errors <= step + erasures.length) {
      errors = step + 1 + erasures.length - errors;
      previous = locator.map((coefficient) => divide(coefficient, discrepancy));
    }
    locator = next;
  }
  while (locator.at(-1) === 0) locator.pop();
  return locator;
}

function addScaled(a: readonly number[], b: readonly number[], factor: number): number[] {
  return Array.from(
    { length: Math.max(a.length, b.length) },
    (_, index) => (a[index] ?? 0) ^ multiply(b[index] ?? 0, factor),
  );
}

/** Where the locator's reciprocal roots are, found by trying all. */
function positionsOf(locator: readonly number[]): number[] {
  const positions: number[] = [];
  for (let position = 0; position < CODEWORD_SIZE; position += 1) {
    if (evaluate(locator, divide(1, locatorOf(position))) === 0) positions.push(position);
  }
  return positions;
}

/** Forney's formula, for a code whose first root is 2⁰. */
function magnitude(evaluator: readonly number[], locator: readonly number[], at: number): number {
  const inverse = divide(1, at);
  // In a field of two's powers the derivative keeps the odd coefficients.
  const derivative = locator.map((coefficient, index) => (index % 2 === 1 ? coefficient : 0)).slice(1);
  return multiply(at, divide(evaluate(evaluator, inverse), evaluate(derivative, inverse)));
}
