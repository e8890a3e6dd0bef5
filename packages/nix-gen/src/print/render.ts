import { NixGenError } from "../errors.ts";
import {
  type AttributeStep,
  type BinaryOperator,
  type BindingNode,
  DEFAULT_MAX_NODES,
  type NixExpr,
  type Node,
  nodeOf,
  type ParameterNode,
} from "../internal/node.ts";
import {
  concat,
  type Doc,
  group,
  HARD_LINE,
  ifBroken,
  indent,
  isBroken,
  join,
  LINE,
  layout,
  SOFT_LINE,
  text,
} from "./layout.ts";
import { attributeName, blockLines, escapeText, floatDigits } from "./literals.ts";

/** How {@link renderNix} prints. */
export interface RenderOptions {
  /** soft limit of a line in characters, not counting its indentation; 100 when not given */
  readonly width?: number;
}

/** Soft limit of a line in characters, not counting its indentation. */
export const DEFAULT_LINE_WIDTH = 100;

// Binding strength, from the table in the Nix manual, "Operators". 13 and above can be a list item or an argument.
const SIMPLE = 14;
const SELECT = 13;
const CALL = 12;
const NEGATE = 11;
const HAS = 10;
const NOT = 6;
const LOWEST = -1;

const STRENGTH: Readonly<Record<BinaryOperator, number>> = {
  "++": 9,
  "*": 8,
  "/": 8,
  "+": 7,
  "-": 7,
  "//": 5,
  "<": 4,
  "<=": 4,
  ">": 4,
  ">=": 4,
  "==": 3,
  "!=": 3,
  "&&": 2,
  "||": 1,
  "->": 0,
};

// The least strength at which a list stays on one line has no meaning; its number of items has.
const MAX_ITEMS_ON_A_LINE = 6;

const INT64_MIN = -(2n ** 63n);

/**
 * Prints an expression as Nix source: two spaces of indentation, one attribute per line, parentheses where the grammar
 * needs them and nowhere else. The same expression gives the same text, always.
 *
 * @param expr - The expression.
 * @param options - Line width.
 * @returns The source, ending in a line feed.
 * @throws {NixGenError} `NIX_GEN_TOO_DEEP` when shared parts blow it up to more than {@link DEFAULT_MAX_NODES} nodes.
 * @see Nix RFC 166, "Nix formatting"
 * @example
 * renderNix(nix({ a: [1, -2] })) // "{ a = [\n …" on one line: { a = [ 1 (-2) ]; }
 */
export function renderNix(expr: NixExpr, options: RenderOptions = {}): string {
  const node = nodeOf(expr);
  if (node.size > DEFAULT_MAX_NODES) {
    const message = `expected at most ${DEFAULT_MAX_NODES} nodes to print, got ${node.size}`;
    throw new NixGenError("NIX_GEN_TOO_DEEP", message, { hint: "bind the shared part with letIn and refer to it" });
  }
  return `${layout(print(node), options.width ?? DEFAULT_LINE_WIDTH)}\n`;
}

function print(node: Node): Doc {
  switch (node.kind) {
    case "string":
      return concat('"', ...node.parts.map(stringPart), '"');
    case "block":
      return printBlock(node.text);
    case "int":
      // The lexer reads the digits before the sign, and these don't fit.
      return text(node.value === INT64_MIN ? "-9223372036854775807 - 1" : String(node.value));
    case "float":
      return text(printFloat(node.value));
    case "path":
      return node.suffix === undefined ? text(node.path) : concat(node.path, ' + "', escapeText(node.suffix), '"');
    case "identifier":
      return text(node.name);
    case "select":
      return printSelect(node);
    case "has":
      return concat(operand(node.base, HAS + 1), " ? ", attributePath(node.path));
    case "attrs":
      return printAttrs(node);
    case "list":
      return printList(node.items);
    case "lambda":
      return printLambda(node);
    case "call":
      return printCall(node);
    case "let":
      return concat(
        "let",
        indent(HARD_LINE, ...printBindings(node.bindings)),
        HARD_LINE,
        "in",
        HARD_LINE,
        print(node.body),
      );
    case "with":
      return group("with ", print(node.scope), ";", isHugging(node.body) ? " " : LINE, print(node.body));
    case "assert":
      return concat("assert ", print(node.condition), ";", HARD_LINE, print(node.body));
    case "if":
      return group(printIf(node));
    case "operator":
      return printOperator(node);
    case "unary": {
      const least = node.operator === "-" ? NEGATE + 1 : NOT;
      // `-./x` is a path named `-.`.
      if (beginsWithPath(node.operand)) return concat(node.operator, parenthesised(node.operand));
      return concat(node.operator, operand(node.operand, least));
    }
    case "comment":
      return concat(printComment(node.text), HARD_LINE, print(node.body));
  }
}

/** How strongly the outermost construct of a printed node binds. */
function strength(node: Node): number {
  switch (node.kind) {
    case "int":
      if (node.value >= 0n) return SIMPLE;
      return node.value === INT64_MIN ? STRENGTH["-"] : NEGATE;
    case "float":
      if (Object.is(node.value, -0)) return STRENGTH["*"];
      return node.value < 0 ? NEGATE : SIMPLE;
    case "path":
      return node.suffix === undefined ? SIMPLE : STRENGTH["+"];
    case "select":
      return SELECT;
    case "has":
      return HAS;
    case "call":
      return CALL;
    case "operator":
      return STRENGTH[node.operator];
    case "unary":
      return node.operator === "-" ? NEGATE : NOT;
    case "comment":
      return strength(node.body);
    case "lambda":
    case "let":
    case "with":
    case "assert":
    case "if":
      return LOWEST;
    default:
      return SIMPLE;
  }
}

/** `node` where only constructs that bind at least as strongly as `least` can stand. */
function operand(node: Node, least: number): Doc {
  return strength(node) >= least ? print(node) : parenthesised(node);
}

function parenthesised(node: Node): Doc {
  const body = print(node);
  if (node.kind === "comment" || (isBroken(body) && !isHugging(node))) {
    return concat("(", indent(HARD_LINE, body), HARD_LINE, ")");
  }
  return isHugging(node) ? concat("(", body, ")") : group("(", indent(SOFT_LINE, body), SOFT_LINE, ")");
}

function beginsWithPath(node: Node): boolean {
  return node.kind === "path" || (node.kind === "call" && beginsWithPath(node.callee));
}

/** Whether a node can follow something on the same line and still be broken inside itself. */
function isHugging(node: Node): boolean {
  switch (node.kind) {
    case "attrs":
      return node.bindings.length > 0;
    case "list":
      return node.items.length > 0;
    case "block":
      return blockLines(node.text) !== undefined;
    case "lambda":
      return typeof node.parameter === "string" && (isHugging(node.body) || node.body.kind === "lambda");
    case "call": {
      const [last, ...others] = node.args.toReversed();
      return last !== undefined && isHugging(last) && [node.callee, ...others].every(isAtom);
    }
    case "with":
      return isHugging(node.body);
    default:
      return false;
  }
}

/** Whether a node is always short and on one line. */
function isAtom(node: Node): boolean {
  switch (node.kind) {
    case "int":
    case "float":
    case "path":
    case "identifier":
      return true;
    case "string":
      return node.parts.every((part) => typeof part === "string");
    case "select":
      return isAtom(node.base) && node.fallback === undefined;
    case "attrs":
      return node.bindings.length === 0;
    case "list":
      return node.items.length === 0;
    default:
      return false;
  }
}

function stringPart(part: string | Node): Doc {
  return typeof part === "string" ? text(escapeText(part)) : concat("${", print(part), "}");
}

function printBlock(value: string): Doc {
  const lines = blockLines(value);
  if (lines === undefined) return concat('"', escapeText(value), '"');
  const last = lines.at(-1) ?? "";
  const body = lines.slice(0, -1).flatMap((line) => [HARD_LINE, text(line)]);
  if (last === "") return concat("''", indent(...body), HARD_LINE, "''");
  return concat("''", indent(...body, HARD_LINE, text(last), "''"));
}

function printFloat(value: number): string {
  // A minus sign is a subtraction from 0, which loses the sign of 0.
  if (Object.is(value, -0)) return "0.0 * -1.0";
  return value < 0 ? `-${floatDigits(-value)}` : floatDigits(value);
}

function attributePath(path: readonly AttributeStep[]): Doc {
  return join(
    text("."),
    path.map((step) => (typeof step === "string" ? text(attributeName(step)) : concat("${", print(step), "}"))),
  );
}

function printSelect(node: Node & { kind: "select" }): Doc {
  const { base, path, fallback } = node;
  const joins = base.kind === "select" && base.fallback === undefined && fallback === undefined;
  // A number or a path would swallow the dot.
  const isBare = base.kind === "identifier" || base.kind === "attrs" || base.kind === "string";
  const from = joins || isBare ? print(base) : parenthesised(base);
  const selected = concat(from, ".", attributePath(path));
  if (fallback === undefined) return selected;
  const isNested = fallback.kind === "select" && fallback.fallback !== undefined;
  return concat(selected, " or ", isNested ? parenthesised(fallback) : operand(fallback, SELECT));
}

function printAttrs(node: Node & { kind: "attrs" }): Doc {
  const opening = node.recursive ? "rec {" : "{";
  const [first, ...others] = node.bindings;
  if (first === undefined) return text(`${opening} }`);
  const isShort =
    others.length === 0 && (first.kind === "inherit" || (first.kind === "value" && first.value.kind !== "attrs"));
  const line = isShort ? LINE : HARD_LINE;
  return group(opening, indent(line, ...printBindings(node.bindings)), line, "}");
}

function printBindings(bindings: readonly BindingNode[]): Doc[] {
  return bindings.flatMap((binding, index) =>
    index === 0 ? [printBinding(binding)] : [HARD_LINE, printBinding(binding)],
  );
}

function printBinding(binding: BindingNode): Doc {
  switch (binding.kind) {
    case "comment":
      return printComment(binding.text);
    case "inherit": {
      const from = binding.from === undefined ? [] : [" (", print(binding.from), ")"];
      const names = binding.names.flatMap((name) => [LINE, text(attributeName(name))]);
      return group("inherit", ...from, indent(...names), SOFT_LINE, ";");
    }
    case "value": {
      const { path, value } = binding;
      if (value.kind === "comment") {
        const below: BindingNode = { kind: "value", path, value: value.body };
        return concat(printComment(value.text), HARD_LINE, printBinding(below));
      }
      const name = concat(attributePath(path), " =");
      const body = print(value);
      if (isAtom(value) || isHugging(value) || value.kind === "string") return concat(name, " ", body, ";");
      return group(name, indent(LINE, body), ";");
    }
  }
}

function printComment(value: string): Doc {
  const lines = value.split("\n").map((line) => text(`# ${line}`.trimEnd()));
  return join(HARD_LINE, lines);
}

function printList(items: readonly Node[]): Doc {
  if (items.length === 0) return text("[ ]");
  const line = items.length > MAX_ITEMS_ON_A_LINE ? HARD_LINE : LINE;
  const docs = items.map((item) =>
    item.kind === "comment"
      ? concat(printComment(item.text), HARD_LINE, operand(item.body, SELECT))
      : operand(item, SELECT),
  );
  return group("[", indent(line, join(line, docs)), line, "]");
}

function printLambda(node: Node & { kind: "lambda" }): Doc {
  const { parameter, body } = node;
  const head = concat(printParameter(parameter), ":");
  if (typeof parameter !== "string") {
    return body.kind === "lambda" || !isAtom(body)
      ? concat(head, HARD_LINE, print(body))
      : group(head, LINE, print(body));
  }
  if (body.kind === "lambda" || isHugging(body)) return concat(head, " ", print(body));
  return group(head, indent(LINE, print(body)));
}

function printParameter(parameter: ParameterNode): Doc {
  if (typeof parameter === "string") return text(parameter);
  const formals = parameter.formals.map(({ name, fallback }) =>
    fallback === undefined ? text(name) : concat(name, " ? ", print(fallback)),
  );
  const all = parameter.open ? [...formals, text("...")] : formals;
  const as = parameter.as === undefined ? "" : `@${parameter.as}`;
  if (all.length === 0) return text(`{ }${as}`);
  const comma = parameter.open ? "" : ifBroken(",");
  return group("{", indent(LINE, join(concat(",", LINE), all), comma), LINE, "}", as);
}

function printCall(node: Node & { kind: "call" }): Doc {
  const docs = node.args.map((arg) => operand(arg, SELECT));
  const callee = operand(node.callee, CALL);
  if (isHugging(node)) return join(text(" "), [callee, ...docs]);
  return group(callee, indent(...docs.flatMap((doc) => [LINE, doc])));
}

function printIf(node: Node & { kind: "if" }): Doc {
  const { condition, consequent, alternative } = node;
  const rest = alternative.kind === "if" ? concat(" ", printIf(alternative)) : indent(LINE, print(alternative));
  return concat("if ", print(condition), " then", indent(LINE, print(consequent)), LINE, "else", rest);
}

function printOperator(node: Node & { kind: "operator" }): Doc {
  const { operator, operands } = node;
  const own = STRENGTH[operator];
  // A chain is flat only where that means the same: operands that are themselves operations of this strength keep
  // their parentheses.
  const docs = operands.map((part) => operand(part, own + 1));
  const [first, ...others] = docs;
  if (first === undefined) throw new Error("bug: an operator without operands");
  return group(first, ...others.flatMap((doc) => [LINE, text(`${operator} `), doc]));
}
