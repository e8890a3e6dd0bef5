import { NixGenError } from "../errors.ts";
import { DEFAULT_MAX_DEPTH, isNixExpr, makeExpr, type NixExpr, type Node, nodeOf } from "../internal/node.ts";
import { assertText, describe, joinPath } from "../internal/text.ts";

/**
 * Anything that has one obvious Nix expression: an expression already made, or a JavaScript value made of strings,
 * numbers, booleans, null, arrays and plain objects.
 */
export type NixInput =
  | NixExpr
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly NixInput[]
  | { readonly [name: string]: NixInput };

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
// Below this Nix's lexer calls the number invalid (`strtod` reports a range error).
const SMALLEST_NORMAL = 2.2250738585072014e-308;

/**
 * The Nix expression of a JavaScript value.
 *
 * Whole numbers and bigints become integers, other numbers floats, plain objects attribute sets in the order of their
 * keys, arrays lists. Expressions inside are taken as they are.
 *
 * @param value - The value; not retained.
 * @returns An expression that evaluates to the same value.
 * @throws {NixGenError} `NIX_GEN_BAD_STRING` for NUL or a lone surrogate, `NIX_GEN_BAD_NUMBER` for NaN, an infinity, a
 *   subnormal, a whole number above 2^53 that isn't a bigint, or an integer outside 64 bits, `NIX_GEN_BAD_VALUE` for
 *   anything else that has no Nix form (undefined, functions, class instances), `NIX_GEN_CYCLE`, `NIX_GEN_TOO_DEEP`.
 *   `path` says where.
 * @example
 * renderNix(nix({ name: "hello", sizes: [1, 2.5], nested: ref("pkgs") }))
 */
export function nix(value: NixInput): NixExpr {
  return valueExpr(value, "");
}

/** {@link nix} for a value that stands at `path` of a larger one. */
export function valueExpr(value: unknown, path: string): NixExpr {
  if (isNixExpr(value)) return value;
  if (Array.isArray(value) || (typeof value === "object" && value !== null)) {
    return new Conversion().container(value, path, 1);
  }
  return scalar(value, path);
}

/** {@link valueExpr}, as a tree. */
export function valueNode(value: unknown, path: string): Node {
  return nodeOf(valueExpr(value, path));
}

/**
 * A Nix integer.
 *
 * @param value - A bigint, or a whole number that a double holds exactly.
 * @throws {NixGenError} `NIX_GEN_BAD_NUMBER` when it is not whole, or outside -2^63..2^63-1.
 */
export function int(value: bigint | number): NixExpr {
  return integer(value, "");
}

/**
 * A Nix float, printed with exactly the digits that read back as the same double.
 *
 * @param value - A finite double; whole numbers are floats here, and -0 keeps its sign.
 * @throws {NixGenError} `NIX_GEN_BAD_NUMBER` for NaN, infinities, and subnormals, which Nix's lexer refuses.
 */
export function float(value: number): NixExpr {
  return floatAt(value, "");
}

function scalar(value: unknown, path: string): NixExpr {
  switch (typeof value) {
    case "string":
      assertText(value, path);
      return makeExpr({ kind: "string", parts: value === "" ? [] : [value] });
    case "number":
      return Number.isInteger(value) ? integer(value, path) : floatAt(value, path);
    case "bigint":
      return integer(value, path);
    case "boolean":
      return makeExpr({ kind: "identifier", name: value ? "true" : "false" });
    default:
      if (value === null) return makeExpr({ kind: "identifier", name: "null" });
      throw badValue(value, path);
  }
}

function integer(value: bigint | number, path: string): NixExpr {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    const hint = "give whole numbers above 2^53 as a bigint, and floats with float()";
    throw new NixGenError("NIX_GEN_BAD_NUMBER", `expected a whole number below 2^53, got ${value}`, { path, hint });
  }
  const exact = BigInt(value);
  if (exact < INT64_MIN || exact > INT64_MAX) {
    throw new NixGenError("NIX_GEN_BAD_NUMBER", `expected an integer of 64 bits, got ${exact}`, { path });
  }
  return makeExpr({ kind: "int", value: exact });
}

/** A float that stands at `path` of a larger value. */
export function floatAt(value: number, path: string): NixExpr {
  const size = Math.abs(value);
  if (!Number.isFinite(value) || (size > 0 && size < SMALLEST_NORMAL)) {
    const hint = Number.isFinite(value) ? "Nix can't read numbers this close to 0; use 0" : undefined;
    throw new NixGenError("NIX_GEN_BAD_NUMBER", `expected a finite, normal number, got ${value}`, { path, hint });
  }
  return makeExpr({ kind: "float", value });
}

function badValue(value: unknown, path: string): NixGenError {
  const hint = value === undefined ? "leave the key out, or give null" : undefined;
  const expected = "expected a string, number, boolean, null, array, plain object or expression";
  return new NixGenError("NIX_GEN_BAD_VALUE", `${expected}, got ${describe(value)}`, { path, hint });
}

/** One conversion: knows which objects it is inside of, and which it has already converted. */
class Conversion {
  readonly #open = new Set<object>();
  readonly #done = new Map<object, NixExpr>();

  container(value: object, path: string, depth: number): NixExpr {
    const done = this.#done.get(value);
    if (done !== undefined) return done;
    if (this.#open.has(value)) {
      throw new NixGenError("NIX_GEN_CYCLE", "expected a tree, got a value that contains itself", { path });
    }
    if (depth > DEFAULT_MAX_DEPTH) {
      const message = `expected at most ${DEFAULT_MAX_DEPTH} levels of nesting, got more`;
      throw new NixGenError("NIX_GEN_TOO_DEEP", message, { path: path.slice(0, 120) });
    }
    this.#open.add(value);
    const expr = Array.isArray(value) ? this.#list(value, path, depth) : this.#attrs(value, path, depth);
    this.#open.delete(value);
    this.#done.set(value, expr);
    return expr;
  }

  #part(value: unknown, path: string, depth: number): Node {
    if (isNixExpr(value)) return nodeOf(value);
    const nested = typeof value === "object" && value !== null;
    return nodeOf(nested ? this.container(value, path, depth + 1) : scalar(value, path));
  }

  #list(value: readonly unknown[], path: string, depth: number): NixExpr {
    // Array.from also visits holes, as undefined, which is refused.
    const items = Array.from(value, (item, index) => this.#part(item, joinPath(path, index), depth));
    return makeExpr({ kind: "list", items }, items);
  }

  #attrs(value: object, path: string, depth: number): NixExpr {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== null && prototype !== Object.prototype) throw badValue(value, path);
    if (Object.getOwnPropertySymbols(value).length > 0) {
      throw new NixGenError("NIX_GEN_BAD_VALUE", "expected only string keys, got a symbol", { path });
    }
    const children: Node[] = [];
    const bindings = Object.entries(value).map(([name, part]: [string, unknown]) => {
      assertText(name, joinPath(path, name));
      const node = this.#part(part, joinPath(path, name), depth);
      children.push(node);
      return { kind: "value", path: [name], value: node } as const;
    });
    return makeExpr({ kind: "attrs", recursive: false, bindings }, children);
  }
}
