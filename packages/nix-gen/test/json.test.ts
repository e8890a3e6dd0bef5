import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NixGenError, type NixInput, nix, parseJson, renderNix } from "../src/index.ts";
import { plainValue } from "./helpers/arbitrary.ts";
import { refusal } from "./helpers/expect.ts";

const print = (text: string): string => renderNix(parseJson(text)).trimEnd();

describe("parseJson", () => {
  test.each([
    ["null", "null"],
    [" [ ] ", "[ ]"],
    ["{ }", "{ }"],
    ["9223372036854775807", "9223372036854775807"],
    ["-9223372036854775808", "-9223372036854775807 - 1"],
    ["-0", "0"],
    ["-0.0", "0.0 * -1.0"],
    ["0e5", "0.0"],
    ["1.0", "1.0"],
    ["1E3", "1000.0"],
    ["9007199254740993.0", "9007199254740992.0"],
    ['"\\u0041\\ud83d\\ude00\\/\\b"', '"A😀/\b"'],
    ['"${x}"', '"\\${x}"'],
    ['{"b":1,"a":[true,false]}', "{\n  b = 1;\n  a = [ true false ];\n}"],
    ['{"__proto__":{"x":1}}', "{\n  __proto__ = { x = 1; };\n}"],
  ])("prints %s as %s", (text, expected) => {
    expect(print(text)).toBe(expected);
  });

  test.each([
    ["", "NIX_GEN_BAD_JSON", 0],
    ["[1,]", "NIX_GEN_BAD_JSON", 3],
    ["[1 2]", "NIX_GEN_BAD_JSON", 3],
    ["{a:1}", "NIX_GEN_BAD_JSON", 1],
    ['{"a" 1}', "NIX_GEN_BAD_JSON", 5],
    ['{"a":1,}', "NIX_GEN_BAD_JSON", 7],
    ["01", "NIX_GEN_BAD_JSON", 1],
    ["1.", "NIX_GEN_BAD_JSON", 1],
    [".5", "NIX_GEN_BAD_JSON", 0],
    ["+1", "NIX_GEN_BAD_JSON", 0],
    ["NaN", "NIX_GEN_BAD_JSON", 0],
    ["nulll", "NIX_GEN_BAD_JSON", 4],
    ["\ufeff1", "NIX_GEN_BAD_JSON", 0],
    ['"a\nb"', "NIX_GEN_BAD_JSON", 0],
    ['"\\x"', "NIX_GEN_BAD_JSON", 0],
    ['"a', "NIX_GEN_BAD_JSON", 0],
    ['"a\\', "NIX_GEN_BAD_JSON", 0],
    ["// x\n1", "NIX_GEN_BAD_JSON", 0],
    ["[9223372036854775808]", "NIX_GEN_BAD_NUMBER", 1],
    ["[1e999]", "NIX_GEN_BAD_NUMBER", 1],
    ["[1e-999]", "NIX_GEN_BAD_NUMBER", 1],
    ["[5e-324]", "NIX_GEN_BAD_NUMBER", 1],
    ['["\\u0000"]', "NIX_GEN_BAD_STRING", 1],
    ['["\\ud800"]', "NIX_GEN_BAD_STRING", 1],
    ['{"\\u0000":1}', "NIX_GEN_BAD_STRING", 1],
    ['{"a":1, "a":2}', "NIX_GEN_DUPLICATE_ATTRIBUTE", 8],
  ] as const)("refuses %j with %s at %i", (text, code, offset) => {
    refusal(() => parseJson(text), code, `offset ${offset}`);
  });

  test("refuses what is too deep", () => {
    refusal(() => parseJson("[".repeat(100_000)), "NIX_GEN_TOO_DEEP");
  });

  test("agrees with JSON.parse on what JSON.stringify writes", () => {
    fc.assert(
      fc.property(plainValue, fc.constantFrom(0, 1, 4), (value, indent) => {
        expect(renderNix(parseJson(JSON.stringify(value, undefined, indent)))).toBe(renderNix(nix(value as NixInput)));
      }),
    );
  });

  test("takes no text that JSON.parse refuses, and throws nothing but its own error", () => {
    const text = '{"a": [1, -2.5e3, "x\\n\\u00e9", true, null], "b": {}}';
    const variants = [...text].flatMap((character, index) => [
      text.slice(0, index),
      text.slice(0, index) + text.slice(index + 1),
      text.slice(0, index) + String.fromCharCode(character.charCodeAt(0) ^ 1) + text.slice(index + 1),
    ]);
    for (const variant of variants) {
      let isTaken = true;
      try {
        parseJson(variant);
      } catch (error) {
        expect(error, variant).toBeInstanceOf(NixGenError);
        isTaken = false;
      }
      if (isTaken) expect(() => JSON.parse(variant), variant).not.toThrow();
    }
  });
});
