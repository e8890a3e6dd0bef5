import { NixGenError } from "../errors.ts";
import { assertBindable, assertIdentifier } from "../internal/names.ts";
import {
  type BinaryOperator,
  makeExpr,
  type NixExpr,
  type Node,
  nodeOf,
  type ParameterNode,
  stepNodes,
} from "../internal/node.ts";
import { quote } from "../internal/text.ts";
import { type AttrPath, attrPath } from "./bindings.ts";
import { requirementOf } from "./builtins.ts";
import { type NixInput, valueNode } from "./value.ts";

/**
 * A variable, or an attribute below it.
 *
 * @param name - The variable; an identifier.
 * @param path - Attribute names; each is one name and never split at dots.
 * @throws {NixGenError} `NIX_GEN_BAD_IDENTIFIER` when `name` can't be a variable.
 * @example
 * ref("pkgs", "python3.12", "version") // pkgs."python3.12".version
 */
export function ref(name: string, ...path: readonly string[]): NixExpr {
  assertIdentifier(name);
  const variable = makeExpr({ kind: "identifier", name });
  return path.length === 0 ? variable : select(variable, path);
}

/**
 * A function or value of `builtins`, checked against the Nix versions that have it when a flake names its target.
 *
 * @param name - The name, without `builtins.`
 * @throws {NixGenError} `NIX_GEN_BAD_IDENTIFIER` when it isn't an identifier.
 * @example
 * call(builtin("readFile"), path("./motd"))
 */
export function builtin(name: string): NixExpr {
  assertIdentifier(name);
  const base = nodeOf(makeExpr({ kind: "identifier", name: "builtins" }));
  return makeExpr({ kind: "select", base, path: [name], fallback: undefined }, [base], requirementOf(name));
}

/**
 * `base.path`, or `base.path or fallback`.
 *
 * @param base - The attribute set.
 * @param path - A name, or steps of which some are computed.
 * @param fallback - The value when an attribute on the way is missing.
 */
export function select(base: NixInput, path: AttrPath, fallback?: NixInput): NixExpr {
  const steps = attrPath(path);
  const from = valueNode(base, "");
  const otherwise = fallback === undefined ? undefined : valueNode(fallback, "");
  const children = [from, ...stepNodes(steps), ...(otherwise === undefined ? [] : [otherwise])];
  return makeExpr({ kind: "select", base: from, path: steps, fallback: otherwise }, children);
}

/** `base ? path`: whether the attribute is there. */
export function has(base: NixInput, path: AttrPath): NixExpr {
  const steps = attrPath(path);
  const from = valueNode(base, "");
  return makeExpr({ kind: "has", base: from, path: steps }, [from, ...stepNodes(steps)]);
}

/** `callee arg1 arg2 …`. */
export function call(callee: NixInput, ...args: readonly NixInput[]): NixExpr {
  if (args.length === 0) throw new NixGenError("NIX_GEN_BAD_VALUE", "expected at least one argument, got none");
  const nodes = args.map((arg, index) => valueNode(arg, `argument ${index + 1}`));
  const target = valueNode(callee, "");
  return makeExpr({ kind: "call", callee: target, args: nodes }, [target, ...nodes]);
}

/** What a function takes when it takes an attribute set by pattern. */
export interface Pattern {
  /** argument names, with a default or `undefined` for required ones; or just the names */
  readonly formals: readonly string[] | { readonly [name: string]: NixInput | undefined };
  /** whether other attributes are accepted: `...` */
  readonly open?: boolean;
  /** name for the whole set: `{ … }@args` */
  readonly as?: string;
}

/**
 * A function of one parameter: `x: body`, or `{ a, b ? 1, ... }@args: body`.
 *
 * @param parameter - A name, or a {@link Pattern}.
 * @param body - The body; it refers to parameters with {@link ref}.
 * @throws {NixGenError} `NIX_GEN_BAD_IDENTIFIER` for a bad name, or one that literals and operators use,
 *   `NIX_GEN_DUPLICATE_ATTRIBUTE` when two parameters have the same name.
 * @example
 * lambda({ formals: { pkgs: undefined, debug: false } }, ref("pkgs", "hello"))
 */
export function lambda(parameter: string | Pattern, body: NixInput): NixExpr {
  const node = valueNode(body, "");
  if (typeof parameter === "string") {
    assertBindable(parameter);
    return makeExpr({ kind: "lambda", parameter, body: node }, [node]);
  }
  const pattern = patternNode(parameter);
  const fallbacks = pattern.formals.flatMap(({ fallback }) => (fallback === undefined ? [] : [fallback]));
  return makeExpr({ kind: "lambda", parameter: pattern, body: node }, [...fallbacks, node]);
}

/** `if condition then consequent else alternative`. */
export function ifElse(condition: NixInput, consequent: NixInput, alternative: NixInput): NixExpr {
  const [test, yes, no] = [valueNode(condition, ""), valueNode(consequent, ""), valueNode(alternative, "")];
  return makeExpr({ kind: "if", condition: test, consequent: yes, alternative: no }, [test, yes, no]);
}

/** `with scope; body`. Prefer {@link inheritFrom} in a `let`: with `with`, nobody can tell where a name comes from. */
export function withScope(scope: NixInput, body: NixInput): NixExpr {
  const [from, node] = [valueNode(scope, ""), valueNode(body, "")];
  return makeExpr({ kind: "with", scope: from, body: node }, [from, node]);
}

/** `assert condition; body`: evaluation fails unless the condition is true. */
export function assertThat(condition: NixInput, body: NixInput): NixExpr {
  const [test, node] = [valueNode(condition, ""), valueNode(body, "")];
  return makeExpr({ kind: "assert", condition: test, body: node }, [test, node]);
}

const CHAINS: ReadonlySet<string> = new Set(["++", "//", "+", "-", "*", "/", "&&", "||"]);

/**
 * Operands joined by an operator; parentheses are added where they are needed.
 *
 * @param operator - The operator. Comparisons and `->` take two operands; the others two or more, which Nix
 *   takes from the left, and from the right for `++` and `//`, where that makes no difference.
 * @param operands - The operands.
 * @throws {NixGenError} `NIX_GEN_BAD_VALUE` for a wrong number of operands.
 * @example
 * op("//", ref("defaults"), { debug: true }) // defaults // { debug = true; }
 */
export function op(operator: BinaryOperator, ...operands: readonly NixInput[]): NixExpr {
  const isChain = CHAINS.has(operator);
  if (!isChain && !["<", "<=", ">", ">=", "==", "!=", "->"].includes(operator)) {
    throw new NixGenError("NIX_GEN_BAD_VALUE", `expected an operator of Nix, got ${quote(String(operator))}`);
  }
  if (operands.length < 2 || (!isChain && operands.length > 2)) {
    const expected = isChain ? "two or more operands" : "two operands";
    throw new NixGenError("NIX_GEN_BAD_VALUE", `expected ${expected} of ${operator}, got ${operands.length}`);
  }
  const nodes = operands.map((operand, index) => valueNode(operand, `operand ${index + 1}`));
  return makeExpr({ kind: "operator", operator, operands: nodes }, nodes);
}

/** `!operand`. */
export function not(operand: NixInput): NixExpr {
  const node = valueNode(operand, "");
  return makeExpr({ kind: "unary", operator: "!", operand: node }, [node]);
}

/** `-operand`. */
export function negate(operand: NixInput): NixExpr {
  const node = valueNode(operand, "");
  return makeExpr({ kind: "unary", operator: "-", operand: node }, [node]);
}

function patternNode({ formals, open = false, as }: Pattern): Exclude<ParameterNode, string> {
  const entries: [string, Node | undefined][] = Array.isArray(formals)
    ? formals.map((name: string) => [name, undefined])
    : Object.entries(formals).map(([name, value]: [string, unknown]) => [
        name,
        value === undefined ? undefined : valueNode(value, name),
      ]);
  const seen = new Set<string>(as === undefined ? [] : [as]);
  if (as !== undefined) assertBindable(as);
  for (const [name] of entries) {
    assertBindable(name);
    if (seen.has(name)) {
      throw new NixGenError("NIX_GEN_DUPLICATE_ATTRIBUTE", `expected every parameter once, got ${name} again`);
    }
    seen.add(name);
  }
  return { formals: entries.map(([name, fallback]) => ({ name, fallback })), open, as };
}
