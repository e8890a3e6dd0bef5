/**
 * The field of 256 elements in which dm-verity's codes are computed: polynomials over bits, modulo
 * x⁸ + x⁴ + x³ + x² + 1. Addition is exclusive or.
 */
const FIELD_POLYNOMIAL = 0x11d;
/** Elements other than zero: each is a power of two, and there are so many powers. */
const ORDER = 255;

/** `EXP[n]` is two to the power of n; doubled, so that sums of two logarithms need no remainder. */
const EXP = new Uint8Array(2 * ORDER);
const LOG = new Uint8Array(ORDER + 1);
for (let power = 0, value = 1; power < ORDER; power += 1) {
  EXP[power] = value;
  EXP[power + ORDER] = value;
  LOG[value] = power;
  value <<= 1;
  if (value > ORDER) value ^= FIELD_POLYNOMIAL;
}

/** Multiplies. */
export function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : (EXP[(LOG[a] ?? 0) + (LOG[b] ?? 0)] ?? 0);
}

/** Divides; `b` is not zero. */
export function divide(a: number, b: number): number {
  return a === 0 ? 0 : (EXP[(LOG[a] ?? 0) + ORDER - (LOG[b] ?? 0)] ?? 0);
}

/** Two to any power, negative ones too. */
export function powerOfTwo(exponent: number): number {
  return EXP[((exponent % ORDER) + ORDER) % ORDER] ?? 0;
}

/** The products of one element with every other. */
export function productsOf(element: number): Uint8Array {
  return Uint8Array.from({ length: ORDER + 1 }, (_, other) => multiply(element, other));
}

/** The value of a polynomial, whose coefficients begin with the constant one. */
export function evaluate(polynomial: ArrayLike<number>, at: number): number {
  let value = 0;
  for (let index = polynomial.length - 1; index >= 0; index -= 1) {
    value = multiply(value, at) ^ (polynomial[index] ?? 0);
  }
  return value;
}

/** The product of two polynomials. */
export function multiplyPolynomials(a: readonly number[], b: readonly number[]): number[] {
  const product = new Array<number>(a.length + b.length - 1).fill(0);
  for (const [left, x] of a.entries()) {
    for (const [right, y] of b.entries()) product[left + right] = (product[left + right] ?? 0) ^ multiply(x, y);
  }
  return product;
}
