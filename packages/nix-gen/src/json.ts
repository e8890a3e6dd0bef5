import { NixGenError } from "./errors.ts";
import { floatAt, valueExpr } from "./expression/value.ts";
import { DEFAULT_MAX_DEPTH, makeExpr, type NixExpr, type Node, nodeOf } from "./internal/node.ts";
import { assertText, quote } from "./internal/text.ts";

/**
 * The Nix expression of a JSON text, without the losses of `JSON.parse` and of `builtins.fromJSON`: integers keep all
 * 64 bits, numbers with a dot or an exponent become floats, attributes keep their order, and whatever can't be kept is
 * an error instead of something else.
 *
 * @param text - One JSON value.
 * @returns An expression that evaluates to the same value.
 * @throws {NixGenError} `NIX_GEN_BAD_JSON` for text that isn't JSON, with the offset; `NIX_GEN_DUPLICATE_ATTRIBUTE` for
 *   a key that is there twice; `NIX_GEN_BAD_NUMBER` for integers outside 64 bits and floats that Nix can't read;
 *   `NIX_GEN_BAD_STRING` for `\u0000` and lone surrogates; `NIX_GEN_TOO_DEEP`.
 * @see RFC 8259
 * @example
 * renderNix(parseJson('{"size": 9223372036854775807}')) // { size = 9223372036854775807; }
 */
export function parseJson(text: string): NixExpr {
  return new JsonReader(text).document();
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?<fraction>\.[0-9]+)?(?<exponent>[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;
const SPACE = /[ \t\n\r]*/y;

class JsonReader {
  readonly #text: string;
  #offset = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): NixExpr {
    const expr = this.#value(1);
    this.#skipSpace();
    if (this.#offset < this.#text.length) throw this.#unexpected("the end");
    return expr;
  }

  #value(depth: number): NixExpr {
    if (depth > DEFAULT_MAX_DEPTH) {
      throw new NixGenError("NIX_GEN_TOO_DEEP", `expected at most ${DEFAULT_MAX_DEPTH} levels of nesting, got more`);
    }
    this.#skipSpace();
    const start = this.#offset;
    switch (this.#text[start]) {
      case "{":
        return this.#object(depth);
      case "[":
        return this.#array(depth);
      case '"':
        return this.#located(start, this.#string());
      default:
        break;
    }
    const word = this.#match(WORD)?.[0];
    if (word !== undefined) return valueExpr(word === "null" ? null : word === "true", "");
    const number = this.#match(NUMBER);
    if (number === undefined) throw this.#unexpected("a JSON value");
    const isInteger = number.groups?.fraction === undefined && number.groups?.exponent === undefined;
    if (isInteger) return this.#located(start, BigInt(number[0]));
    return this.#float(start, number[0]);
  }

  #object(depth: number): NixExpr {
    const seen = new Set<string>();
    const children: Node[] = [];
    const bindings = this.#sequence("}", () => {
      this.#skipSpace();
      const start = this.#offset;
      const name = this.#string();
      assertText(name, this.#at(start));
      if (seen.has(name)) {
        const message = `expected every key once, got ${quote(name)} again`;
        throw new NixGenError("NIX_GEN_DUPLICATE_ATTRIBUTE", message, { path: this.#at(start) });
      }
      seen.add(name);
      this.#expect(":");
      const value = nodeOf(this.#value(depth + 1));
      children.push(value);
      return { kind: "value", path: [name], value } as const;
    });
    return makeExpr({ kind: "attrs", recursive: false, bindings }, children);
  }

  #array(depth: number): NixExpr {
    const items = this.#sequence("]", () => nodeOf(this.#value(depth + 1)));
    return makeExpr({ kind: "list", items }, items);
  }

  #sequence<T>(end: string, item: () => T): T[] {
    this.#offset += 1;
    this.#skipSpace();
    const items: T[] = [];
    if (this.#text[this.#offset] === end) {
      this.#offset += 1;
      return items;
    }
    for (;;) {
      items.push(item());
      this.#skipSpace();
      const next = this.#text[this.#offset];
      if (next !== "," && next !== end) throw this.#unexpected(`"," or "${end}"`);
      this.#offset += 1;
      if (next === end) return items;
    }
  }

  #string(): string {
    const start = this.#offset;
    if (this.#text[start] !== '"') throw this.#unexpected("a JSON string");
    let end = start + 1;
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === "\\" ? 2 : 1;
    try {
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string;
      this.#offset = end + 1;
      return value;
    } catch {
      throw this.#unexpected("a JSON string");
    }
  }

  #float(start: number, digits: string): NixExpr {
    const value = Number(digits);
    // A nonzero number that reads as 0 has lost everything.
    const isLost = value === 0 && /[1-9]/.test(digits.replace(/[eE].*$/, ""));
    if (!Number.isFinite(value) || isLost) {
      const message = `expected a number that a double holds, got ${quote(digits)}`;
      throw new NixGenError("NIX_GEN_BAD_NUMBER", message, { path: this.#at(start) });
    }
    return floatAt(value, this.#at(start));
  }

  #located(start: number, value: string | bigint): NixExpr {
    return valueExpr(value, this.#at(start));
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#offset;
    const matched = pattern.exec(this.#text) ?? undefined;
    if (matched !== undefined) this.#offset = pattern.lastIndex;
    return matched;
  }

  #expect(character: string): void {
    this.#skipSpace();
    if (this.#text[this.#offset] !== character) throw this.#unexpected(quote(character));
    this.#offset += 1;
  }

  #skipSpace(): void {
    this.#match(SPACE);
  }

  #at(offset: number): string {
    return `offset ${offset}`;
  }

  #unexpected(expected: string): NixGenError {
    const rest = this.#text.slice(this.#offset, this.#offset + 20);
    const actual = rest === "" ? "the end" : quote(rest);
    return new NixGenError("NIX_GEN_BAD_JSON", `expected ${expected}, got ${actual}`, { path: this.#at(this.#offset) });
  }
}
