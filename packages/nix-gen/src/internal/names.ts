import { NixGenError } from "../errors.ts";
import { quote } from "./text.ts";

// Nix 2.8 `src/libexpr/lexer.l`, ID; the same in 2.26.
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_'-]*$/;

// `or` is a keyword only after a selection, but `let or = 1; in or` doesn't parse.
const KEYWORDS = new Set(["if", "then", "else", "assert", "with", "let", "in", "rec", "inherit", "or"]);

/**
 * Names that literals and operators secretly use: `-1` is `__sub 0 1`, `true` is a variable. Binding one of them would
 * change the meaning of code that never mentions it.
 */
const SACRED = new Set([
  "true",
  "false",
  "null",
  "builtins",
  "__sub",
  "__mul",
  "__div",
  "__lessThan",
  "__findFile",
  "__nixPath",
  "__curPos",
]);

/** Whether `name` can stand unquoted as an attribute name. */
export function isPlainAttribute(name: string): boolean {
  return IDENTIFIER.test(name) && !KEYWORDS.has(name);
}

/** Throws unless `name` can be referred to as a variable. */
export function assertIdentifier(name: string, path?: string): void {
  if (isPlainAttribute(name)) return;
  const actual = KEYWORDS.has(name) ? `the keyword ${quote(name)}` : quote(name);
  throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", `expected an identifier, got ${actual}`, { path });
}

/** Throws unless `name` can be bound as a variable without changing what other code means. */
export function assertBindable(name: string, path?: string): void {
  assertIdentifier(name, path);
  assertNotSacred(name, path);
}

/** Throws when binding `name` would change what literals and operators mean. */
export function assertNotSacred(name: string, path?: string): void {
  if (!SACRED.has(name)) return;
  throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", `expected a name that is free to bind, got ${quote(name)}`, {
    path,
    hint: "Nix uses this name for literals or operators, so that binding it would change what they mean",
  });
}
