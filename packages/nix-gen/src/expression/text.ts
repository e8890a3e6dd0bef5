import { NixGenError } from "../errors.ts";
import { isNixExpr, makeExpr, type NixExpr, type Node, nodeOf } from "../internal/node.ts";
import { assertText, describe, quote } from "../internal/text.ts";
import { assertStoreName, toStoreName } from "../store-name.ts";
import { attrs } from "./bindings.ts";
import { builtin, call } from "./syntax.ts";

/**
 * A Nix string with holes.
 *
 * A hole that is a JavaScript string becomes part of the text, as it is; a hole that is an expression becomes `${…}`.
 *
 * @param strings - The fixed text; JavaScript escapes are applied, as in any template.
 * @param holes - Strings and expressions.
 * @returns An expression that evaluates to a string.
 * @throws {NixGenError} `NIX_GEN_BAD_STRING` for NUL or a lone surrogate, `NIX_GEN_BAD_VALUE` for a hole that Nix can't
 *   put into a string (numbers, booleans, lists).
 * @example
 * str`${ref("pkgs", "bash")}/bin/bash -c ${"echo ${not a hole}"}`
 */
export function str(strings: TemplateStringsArray, ...holes: readonly (string | NixExpr)[]): NixExpr {
  const parts: (string | Node)[] = [];
  for (const [index, text] of strings.entries()) {
    // The type says string, but an invalid escape in a tagged template gives undefined.
    if ((text as string | undefined) === undefined) {
      throw new NixGenError("NIX_GEN_BAD_STRING", `expected valid escapes, got ${quote(strings.raw[index] ?? "")}`);
    }
    parts.push(text);
    const hole = holes[index];
    if (hole !== undefined) parts.push(typeof hole === "string" ? hole : holeNode(hole, index));
  }
  return stringOf(parts);
}

/**
 * Strings and expressions one after the other, as one Nix string: {@link str} for parts that are computed.
 *
 * @param parts - Strings and expressions.
 * @throws {NixGenError} As {@link str}.
 * @example
 * concatText(["hello ", ref("name")]) // "hello ${name}"
 */
export function concatText(parts: readonly (string | NixExpr)[]): NixExpr {
  return stringOf(parts.map((part, index) => (typeof part === "string" ? part : holeNode(part, index))));
}

/**
 * A string of several lines, printed as an indented `''` string so that people can read it: a script, a configuration
 * file. Text that this form can't hold exactly (carriage returns, every line indented) is printed as an ordinary
 * string; the value is the same.
 *
 * @param value - The text, as it is; nothing in it is a hole.
 * @throws {NixGenError} `NIX_GEN_BAD_STRING` for NUL or a lone surrogate.
 */
export function block(value: string): NixExpr {
  assertText(value);
  return makeExpr({ kind: "block", text: value });
}

/**
 * A Nix path.
 *
 * @param value - `.`, `./a/b`, `../a` (relative to the file that it is printed into), or absolute; any character but NUL
 *   is allowed in a component.
 * @throws {NixGenError} `NIX_GEN_BAD_PATH` for other beginnings (`a/b`, `~/a`), empty components, and `.` or `..` after
 *   the beginning.
 * @example
 * path("./scripts/with space.sh") // ./. + "/scripts/with space.sh"
 */
export function path(value: string): NixExpr {
  assertText(value, undefined, "NIX_GEN_BAD_PATH");
  const { base, rest } = splitPath(value);
  // A path needs a slash to be one.
  const root = base === ".." ? "../." : base;
  if (rest === "") return makeExpr({ kind: "path", path: root, suffix: undefined });
  if (!/^[A-Za-z0-9._+-]+(\/[A-Za-z0-9._+-]+)*$/.test(rest)) {
    return makeExpr({ kind: "path", path: root, suffix: `/${rest}` });
  }
  const joined = base === "/." || base === "./." ? `${base.slice(0, -1)}${rest}` : `${base}/${rest}`;
  return makeExpr({ kind: "path", path: joined, suffix: undefined });
}

/**
 * A file or directory that is copied into the Nix store, under a name that is always valid there: what stands between
 * an arbitrary file name and a derivation that uses it.
 *
 * @param value - As for {@link path}.
 * @param name - The name in the store; made of the last component when not given.
 * @throws {NixGenError} `NIX_GEN_BAD_PATH`, `NIX_GEN_BAD_STORE_NAME`.
 * @see Nix manual, builtins.path
 * @example
 * source("./files/My Theme.tar") // builtins.path { path = ./. + "/files/My Theme.tar"; name = "My-Theme.tar"; }
 */
export function source(value: string, name?: string): NixExpr {
  const last = value.split("/").at(-1) ?? "";
  const storeName = name ?? (/^\.*$/.test(last) ? "source" : toStoreName(last));
  assertStoreName(storeName);
  return call(builtin("path"), attrs({ path: path(value), name: storeName }));
}

function splitPath(value: string): { base: string; rest: string } {
  const matched = /^(?<base>\/|\.(?=$|\/)\/?|(?:\.\.(?:\/|$))+)(?<rest>[\s\S]*)$/.exec(value)?.groups;
  const rest = matched?.rest ?? "";
  const components = rest === "" ? [] : rest.split("/");
  const bad = components.find((component) => component === "" || component === "." || component === "..");
  if (matched === undefined || bad !== undefined || (value.length > 1 && value !== "./" && value.endsWith("/"))) {
    throw new NixGenError("NIX_GEN_BAD_PATH", `expected a path such as ./a, ../a or /a, got ${quote(value)}`, {
      hint: "give the path in its shortest form, without a slash at its end",
    });
  }
  const start = matched.base ?? "";
  if (start === "/") return { base: "/.", rest };
  if (start.startsWith("..")) return { base: start.replace(/\/$/, ""), rest };
  return { base: "./.", rest };
}

function stringOf(parts: readonly (string | Node)[]): NixExpr {
  const merged: (string | Node)[] = [];
  for (const part of parts) {
    const last = merged.at(-1);
    if (typeof part === "string" && typeof last === "string") merged[merged.length - 1] = last + part;
    else if (part !== "") merged.push(part);
  }
  for (const part of merged) if (typeof part === "string") assertText(part);
  return makeExpr(
    { kind: "string", parts: merged },
    merged.filter((part) => typeof part !== "string"),
  );
}

function holeNode(hole: unknown, index: number): Node {
  const path = `hole ${index + 1}`;
  if (!isNixExpr(hole)) {
    throw new NixGenError("NIX_GEN_BAD_VALUE", `expected a string or an expression, got ${describe(hole)}`, { path });
  }
  const node = nodeOf(hole);
  const isLiteral = node.kind === "identifier" && ["true", "false", "null"].includes(node.name);
  if (isLiteral || ["int", "float", "list", "lambda"].includes(node.kind)) {
    throw new NixGenError("NIX_GEN_BAD_VALUE", `expected something that becomes text, got a ${node.kind}`, {
      path,
      hint: 'Nix doesn\'t turn it into text by itself; use call(builtin("toString"), …)',
    });
  }
  // Putting a path into a string copies it to the store, under its own name.
  const last = node.kind === "path" ? (node.suffix ?? node.path).split("/").at(-1) : undefined;
  if (last !== undefined && !/^\.*$/.test(last)) assertCopyable(last, path);
  return node;
}

function assertCopyable(name: string, path: string): void {
  try {
    assertStoreName(name);
  } catch (cause) {
    const message = `expected a path whose name is valid in the store, got ${quote(name)}`;
    throw new NixGenError("NIX_GEN_BAD_STORE_NAME", message, { path, cause, hint: "use source() instead of path()" });
  }
}
