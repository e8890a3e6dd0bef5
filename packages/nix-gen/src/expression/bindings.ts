import { NixGenError } from "../errors.ts";
import { assertBindable, assertIdentifier, assertNotSacred, isPlainAttribute } from "../internal/names.ts";
import {
  type AttributeStep,
  type BindingNode,
  bindingNodes,
  isNixExpr,
  makeExpr,
  type NixExpr,
  nodeOf,
} from "../internal/node.ts";
import { assertText, describe, joinPath, quote } from "../internal/text.ts";
import { type NixInput, valueExpr, valueNode } from "./value.ts";

declare const BINDING: unique symbol;

/** One line of an attribute set or a `let`: a binding, an `inherit` or a comment. Opaque, like {@link NixExpr}. */
export interface Binding {
  readonly [BINDING]: "Binding";
}

/** Bindings by name, in the order of the keys, or one by one. */
export type Bindings = { readonly [name: string]: NixInput } | readonly Binding[];

/** An attribute path: one name, or steps of which some are computed. A name is never split at dots. */
export type AttrPath = string | readonly (string | NixExpr)[];

const lines = new WeakMap<object, BindingNode>();

/**
 * `name = value;`, or `a.b."c d".${expr} = value;`.
 *
 * @param path - A name, or the steps of a path.
 * @param value - The value.
 * @throws {NixGenError} `NIX_GEN_BAD_IDENTIFIER` for an empty path, and whatever {@link nix} throws for the value.
 */
export function bind(path: AttrPath, value: NixInput): Binding {
  const steps = attrPath(path);
  const where = steps.every((step) => typeof step === "string") ? steps.reduce(joinPath, "") : "";
  return makeBinding({ kind: "value", path: steps, value: valueNode(value, where) });
}

/** `inherit a b;`: takes variables of the surrounding scope as attributes. */
export function inherit(...names: readonly string[]): Binding {
  for (const name of assertSome(names)) assertIdentifier(name);
  return makeBinding({ kind: "inherit", from: undefined, names });
}

/** `inherit (source) a b;`: takes attributes of `source`. */
export function inheritFrom(source: NixInput, ...names: readonly string[]): Binding {
  for (const name of assertSome(names)) assertText(name, undefined, "NIX_GEN_BAD_IDENTIFIER");
  return makeBinding({ kind: "inherit", from: valueNode(source, ""), names });
}

/**
 * A `# comment` on lines of its own, between bindings or above an expression.
 *
 * @param text - One or more lines; no `#` needed.
 * @param body - The expression to stand below it; without it, the comment is a line among bindings.
 * @throws {NixGenError} `NIX_GEN_BAD_COMMENT` for NUL, lone surrogates and carriage returns (which end a line for Nix).
 */
export function comment(text: string): Binding;
export function comment(text: string, body: NixInput): NixExpr;
export function comment(text: string, body?: NixInput): Binding | NixExpr {
  assertText(text, undefined, "NIX_GEN_BAD_COMMENT");
  if (text.includes("\r")) {
    throw new NixGenError("NIX_GEN_BAD_COMMENT", "expected lines that end in \\n, got a carriage return");
  }
  if (body === undefined) return makeBinding({ kind: "comment", text });
  const node = valueNode(body, "");
  return makeExpr({ kind: "comment", text, body: node }, [node]);
}

/**
 * An attribute set, not recursive. Attributes are printed in the given order.
 *
 * @param bindings - Values by name, or a list of {@link bind}, {@link inherit}, {@link inheritFrom} and {@link comment}.
 * @throws {NixGenError} `NIX_GEN_DUPLICATE_ATTRIBUTE` when two bindings set the same attribute, or one sets an attribute
 *   inside another's value.
 * @example
 * attrs([comment("built here"), bind(["meta", "license"], "mit"), inherit("name")])
 */
export function attrs(bindings: Bindings): NixExpr {
  const list = bindingList(bindings);
  return makeExpr({ kind: "attrs", recursive: false, bindings: list }, bindingNodes(list));
}

/**
 * An attribute set whose values can refer to each other by name: `rec { … }`.
 *
 * @param bindings - As for {@link attrs}.
 * @throws {NixGenError} As {@link attrs}; also `NIX_GEN_BAD_IDENTIFIER` for names that literals and operators use.
 */
export function recAttrs(bindings: Bindings): NixExpr {
  const list = bindingList(bindings);
  for (const name of boundNames(list)) assertNotSacred(name);
  return makeExpr({ kind: "attrs", recursive: true, bindings: list }, bindingNodes(list));
}

/**
 * `let … in body`; without any bindings, just the body.
 *
 * @param bindings - As for {@link attrs}; every name must be an identifier.
 * @param body - The expression that sees them.
 * @throws {NixGenError} As {@link attrs}; also `NIX_GEN_BAD_IDENTIFIER`.
 */
export function letIn(bindings: Bindings, body: NixInput): NixExpr {
  const list = bindingList(bindings);
  const node = valueNode(body, "");
  if (list.every((line) => line.kind === "comment")) {
    const text = list.map((line) => (line.kind === "comment" ? line.text : "")).join("\n");
    return text === "" ? valueExpr(body, "") : comment(text, body);
  }
  for (const line of list) {
    if (line.kind === "value" && typeof line.path[0] !== "string") {
      throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", "expected fixed names in let, got a computed one");
    }
  }
  for (const name of boundNames(list)) assertBindable(name);
  return makeExpr({ kind: "let", bindings: list, body: node }, [...bindingNodes(list), node]);
}

/** `path` as checked steps; a computed step that is fixed text after all becomes that text. */
export function attrPath(path: AttrPath): AttributeStep[] {
  const steps = typeof path === "string" ? [path] : path;
  if (steps.length === 0) throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", "expected at least one name, got none");
  return steps.map((step, index) => {
    if (typeof step === "string") {
      assertText(step, `[${index}]`, "NIX_GEN_BAD_IDENTIFIER");
      return step;
    }
    if (!isNixExpr(step)) {
      const message = `expected a name or an expression, got ${describe(step)}`;
      throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", message, { path: `[${index}]` });
    }
    const node = nodeOf(step);
    if (node.kind === "block") return node.text;
    if (node.kind !== "string") return node;
    const [first, ...others] = node.parts;
    return others.length === 0 && (first === undefined || typeof first === "string") ? (first ?? "") : node;
  });
}

function makeBinding(node: BindingNode): Binding {
  const binding = Object.freeze({}) as Binding;
  lines.set(binding, node);
  return binding;
}

function assertSome(names: readonly string[]): readonly string[] {
  if (names.length === 0) throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", "expected at least one name, got none");
  return names;
}

function bindingList(bindings: Bindings): BindingNode[] {
  const list = isBindingArray(bindings)
    ? bindings.map((binding, index) => {
        const node = typeof binding === "object" && binding !== null ? lines.get(binding) : undefined;
        if (node !== undefined) return node;
        const message = `expected bind(), inherit(), inheritFrom() or comment(), got ${describe(binding)}`;
        throw new NixGenError("NIX_GEN_BAD_VALUE", message, { path: `[${index}]` });
      })
    : bindingsOfObject(bindings);
  assertDistinct(list);
  return list;
}

function isBindingArray(bindings: Bindings): bindings is readonly Binding[] {
  return Array.isArray(bindings);
}

function bindingsOfObject(bindings: { readonly [name: string]: NixInput }): BindingNode[] {
  const node = isNixExpr(bindings) ? undefined : valueNode(bindings, "");
  if (node?.kind === "attrs") return [...node.bindings];
  throw new NixGenError("NIX_GEN_BAD_VALUE", `expected an object or a list of bindings, got ${describe(bindings)}`);
}

function boundNames(list: readonly BindingNode[]): string[] {
  return list.flatMap((line) => {
    if (line.kind === "inherit") return line.names;
    return line.kind === "value" && typeof line.path[0] === "string" ? [line.path[0]] : [];
  });
}

/** Attributes set so far: `leaf` when there is a value, otherwise what is inside. */
type Trie = Map<string, Trie | "leaf">;

// Nix merges `{ a.b = 1; a.c = 2; }` in every version, but a path into a value that is written out elsewhere only in
// some orders and versions, so that is refused.
function assertDistinct(list: readonly BindingNode[]): void {
  const root: Trie = new Map();
  for (const line of list) {
    if (line.kind === "inherit") for (const name of line.names) insert(root, [name]);
    if (line.kind === "value") insert(root, line.path);
  }
}

function insert(root: Trie, path: readonly AttributeStep[]): void {
  let here = root;
  for (const [index, step] of path.entries()) {
    // What a computed name is, only Nix finds out.
    if (typeof step !== "string") return;
    const known = here.get(step);
    const isLast = index === path.length - 1;
    if (known === "leaf" || (known !== undefined && isLast)) {
      const fixed = path.filter((part) => typeof part === "string");
      const name = fixed.map((part) => (isPlainAttribute(part) ? part : quote(part))).join(".");
      throw new NixGenError("NIX_GEN_DUPLICATE_ATTRIBUTE", `expected every attribute once, got ${name} again`);
    }
    if (isLast) here.set(step, "leaf");
    else {
      const next: Trie = known ?? new Map();
      here.set(step, next);
      here = next;
    }
  }
}
