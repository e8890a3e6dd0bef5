import { NixGenError } from "../errors.ts";

/** Operators with one spelling between two or more operands. */
export type BinaryOperator =
  | "++"
  | "*"
  | "/"
  | "+"
  | "-"
  | "//"
  | "<"
  | "<="
  | ">"
  | ">="
  | "=="
  | "!="
  | "&&"
  | "||"
  | "->";

/** One step of an attribute path: a fixed name, or an expression that evaluates to one. */
export type AttributeStep = string | Node;

/** One line of an attribute set or `let`, or of a list with comments in it. */
export type BindingNode =
  | { readonly kind: "value"; readonly path: readonly AttributeStep[]; readonly value: Node }
  | { readonly kind: "inherit"; readonly from: Node | undefined; readonly names: readonly string[] }
  | { readonly kind: "comment"; readonly text: string };

/** One named argument of a function that takes an attribute set. */
interface FormalNode {
  readonly name: string;
  readonly fallback: Node | undefined;
}

/** The parameter of a function: a name, or a pattern. */
export type ParameterNode =
  | string
  | {
      readonly formals: readonly FormalNode[];
      readonly open: boolean;
      readonly as: string | undefined;
    };

/** What an expression is; made only by the smart constructors, which keep every invariant the printer relies on. */
export type NodeBody =
  | { readonly kind: "string"; readonly parts: readonly (string | Node)[] }
  | { readonly kind: "block"; readonly text: string }
  | { readonly kind: "int"; readonly value: bigint }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "path"; readonly path: string; readonly suffix: string | undefined }
  | { readonly kind: "identifier"; readonly name: string }
  | {
      readonly kind: "select";
      readonly base: Node;
      readonly path: readonly AttributeStep[];
      readonly fallback: Node | undefined;
    }
  | { readonly kind: "has"; readonly base: Node; readonly path: readonly AttributeStep[] }
  | { readonly kind: "attrs"; readonly recursive: boolean; readonly bindings: readonly BindingNode[] }
  | { readonly kind: "list"; readonly items: readonly Node[] }
  | { readonly kind: "lambda"; readonly parameter: ParameterNode; readonly body: Node }
  | { readonly kind: "call"; readonly callee: Node; readonly args: readonly Node[] }
  | { readonly kind: "let"; readonly bindings: readonly BindingNode[]; readonly body: Node }
  | { readonly kind: "with"; readonly scope: Node; readonly body: Node }
  | { readonly kind: "assert"; readonly condition: Node; readonly body: Node }
  | { readonly kind: "if"; readonly condition: Node; readonly consequent: Node; readonly alternative: Node }
  | { readonly kind: "operator"; readonly operator: BinaryOperator; readonly operands: readonly Node[] }
  | { readonly kind: "unary"; readonly operator: "!" | "-"; readonly operand: Node }
  | { readonly kind: "comment"; readonly text: string; readonly body: Node };

/** A language feature that not every Nix has. */
export interface Requirement {
  /** first Nix release with it, as [major, minor] */
  readonly since: readonly [number, number];
  /** what needs it, as written in Nix */
  readonly feature: string;
}

/** Facts about the whole tree below a node, so that limits cost nothing to check. */
interface NodeFacts {
  /** levels of nesting, at least 1 */
  readonly depth: number;
  /** nodes when printed; shared nodes count each time */
  readonly size: number;
  /** the youngest feature used below */
  readonly requirement: Requirement | undefined;
}

/** An expression: its shape and the facts about it. */
export type Node = NodeBody & NodeFacts;

declare const OPAQUE: unique symbol;

/**
 * A Nix expression. Opaque: it can be combined and rendered, and never read or made by hand, so that whatever holds one
 * holds correct Nix code.
 */
export interface NixExpr {
  readonly [OPAQUE]: "NixExpr";
}

/** Levels of nesting in one expression; more than this and Nix's own parser may run out of stack. */
export const DEFAULT_MAX_DEPTH = 1000;

/** Nodes in one rendered expression, counting shared parts each time they are printed. */
export const DEFAULT_MAX_NODES = 5_000_000;

const nodes = new WeakMap<object, Node>();

const PROTOTYPE = Object.freeze({
  // "${expr}" in an ordinary template would otherwise become "[object Object]" inside somebody's Nix code.
  [Symbol.toPrimitive](): never {
    throw new TypeError("a NixExpr can't become a string by itself: put it into str`…`, or print it with renderNix");
  },
  get [Symbol.toStringTag](): string {
    return "NixExpr";
  },
});

/** Makes an expression of `body`, whose direct parts are `children`. */
export function makeExpr(body: NodeBody, children: readonly Node[] = [], requirement?: Requirement): NixExpr {
  let depth = 1;
  let size = 1;
  let youngest = requirement;
  for (const [index, child] of children.entries()) {
    // A chain `a ++ b ++ …` nests to the right in Nix's parser, however flat it looks here.
    depth = Math.max(depth, child.depth + 1 + (body.kind === "operator" ? index : 0));
    size += child.size;
    if (child.requirement !== undefined && isYounger(child.requirement, youngest)) youngest = child.requirement;
  }
  if (depth > DEFAULT_MAX_DEPTH) {
    throw new NixGenError("NIX_GEN_TOO_DEEP", `expected at most ${DEFAULT_MAX_DEPTH} levels of nesting, got ${depth}`, {
      hint: "long chains of an operator count as nesting; use builtins.concatLists or builtins.concatStringsSep",
    });
  }
  const expr = Object.freeze(Object.create(PROTOTYPE)) as NixExpr;
  nodes.set(expr, { ...body, depth, size, requirement: youngest });
  return expr;
}

/** Whether `value` was made by this package's constructors. */
export function isNixExpr(value: unknown): value is NixExpr {
  return typeof value === "object" && value !== null && nodes.has(value);
}

/** The tree behind an expression. */
export function nodeOf(expr: NixExpr): Node {
  const node = nodes.get(expr);
  if (node === undefined) throw new TypeError("expected an expression made by nix-gen, got something else");
  return node;
}

/** Every expression that is a direct part of `step`s. */
export function stepNodes(path: readonly AttributeStep[]): Node[] {
  return path.filter((step) => typeof step !== "string");
}

/** Every expression that is a direct part of `bindings`. */
export function bindingNodes(bindings: readonly BindingNode[]): Node[] {
  return bindings.flatMap((binding) => {
    if (binding.kind === "value") return [...stepNodes(binding.path), binding.value];
    return binding.kind === "inherit" && binding.from !== undefined ? [binding.from] : [];
  });
}

function isYounger(one: Requirement, other: Requirement | undefined): boolean {
  if (other === undefined) return true;
  const [major, minor] = one.since;
  return major > other.since[0] || (major === other.since[0] && minor > other.since[1]);
}
