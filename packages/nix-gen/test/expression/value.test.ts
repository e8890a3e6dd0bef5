import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DEFAULT_MAX_DEPTH, float, int, isNixExpr, type NixInput, nix, ref, renderNix } from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const print = (value: unknown): string => renderNix(nix(value as NixInput)).trimEnd();

describe("nix", () => {
  test.each<[unknown, string]>([
    ["", '""'],
    ["plain", '"plain"'],
    ['"\\$\n\r\t', '"\\"\\\\\\$\\n\\r\\t"'],
    ["\u0001\u007f\u2028é😀", '"\u0001\u007f\u2028é😀"'],
    [0, "0"],
    [-0, "0"],
    [-7, "-7"],
    [Number.MAX_SAFE_INTEGER, "9007199254740991"],
    [9223372036854775807n, "9223372036854775807"],
    [-9223372036854775808n, "-9223372036854775807 - 1"],
    [[-1, -1.5], "[ (-1) (-1.5) ]"],
    [[-9223372036854775808n], "[ (-9223372036854775807 - 1) ]"],
    [0.1, "0.1"],
    [1.5e-300, "1.5e-300"],
    [2.2250738585072014e-308, "2.2250738585072014e-308"],
    [true, "true"],
    [null, "null"],
    [[], "[ ]"],
    [{}, "{ }"],
    [{ __proto__: null, a: 1 }, "{ a = 1; }"],
    [JSON.parse('{"__proto__": 1}'), "{ __proto__ = 1; }"],
    [{ or: 1 }, '{ "or" = 1; }'],
    [{ "": 1 }, '{ "" = 1; }'],
    [{ "a.b": 1 }, '{ "a.b" = 1; }'],
    [{ "${x}": 1 }, '{ "\\${x}" = 1; }'],
    [{ x: ref("y", "z") }, "{ x = y.z; }"],
  ])("prints %o as %s", (value, expected) => {
    expect(print(value)).toBe(expected);
  });

  test("keeps the order of keys, also of keys that Nix sorts", () => {
    expect(print({ b: 1, a: 2 })).toBe("{\n  b = 1;\n  a = 2;\n}");
  });

  test.each([
    [Number.NaN, "NIX_GEN_BAD_NUMBER"],
    [Number.POSITIVE_INFINITY, "NIX_GEN_BAD_NUMBER"],
    [5e-324, "NIX_GEN_BAD_NUMBER"],
    [-2.225073858507201e-308, "NIX_GEN_BAD_NUMBER"],
    [2 ** 53, "NIX_GEN_BAD_NUMBER"],
    [1.5e300, "NIX_GEN_BAD_NUMBER"],
    [2n ** 63n, "NIX_GEN_BAD_NUMBER"],
    [-(2n ** 63n) - 1n, "NIX_GEN_BAD_NUMBER"],
    ["a\0b", "NIX_GEN_BAD_STRING"],
    ["\ud800", "NIX_GEN_BAD_STRING"],
    ["\udc00\ud800", "NIX_GEN_BAD_STRING"],
    [undefined, "NIX_GEN_BAD_VALUE"],
    [() => 1, "NIX_GEN_BAD_VALUE"],
    [Symbol("s"), "NIX_GEN_BAD_VALUE"],
    [new Date(0), "NIX_GEN_BAD_VALUE"],
    [new Map(), "NIX_GEN_BAD_VALUE"],
    [Uint8Array.of(1), "NIX_GEN_BAD_VALUE"],
    [{ [Symbol("s")]: 1 }, "NIX_GEN_BAD_VALUE"],
  ] as const)("refuses %s with %s and says where", (value, code) => {
    refusal(() => nix({ list: [0, { "a b": value as NixInput }] }), code, 'list[1]["a b"]');
  });

  test("refuses holes in an array", () => {
    // biome-ignore lint/suspicious/noSparseArray: that is the point
    refusal(() => nix([1, , 2] as NixInput), "NIX_GEN_BAD_VALUE", "[1]");
  });

  test("refuses keys that Nix can't hold", () => {
    refusal(() => nix({ "a\0": 1 }), "NIX_GEN_BAD_STRING", '["a\\u0000"]');
  });

  test("refuses a value that contains itself, and prints one that is only used twice", () => {
    const list: NixInput[] = [];
    list.push({ list });
    refusal(() => nix(list), "NIX_GEN_CYCLE", "[0].list");
    const shared = { a: 1 };
    expect(print([shared, shared])).toBe("[ { a = 1; } { a = 1; } ]");
  });

  test(`takes ${DEFAULT_MAX_DEPTH} levels and refuses one more`, () => {
    const nested = (levels: number): NixInput => {
      let value: NixInput = [];
      for (let level = 1; level < levels; level++) value = [value];
      return value;
    };
    expect(renderNix(nix(nested(DEFAULT_MAX_DEPTH)))).toContain("[ ]");
    expect(refusal(() => nix(nested(DEFAULT_MAX_DEPTH + 1)), "NIX_GEN_TOO_DEEP", "[0]".repeat(40)).message).toMatch(
      /expected at most 1000 levels/,
    );
    refusal(() => nix([nix(nested(DEFAULT_MAX_DEPTH))]), "NIX_GEN_TOO_DEEP");
  });

  test("refuses to print what sharing blows up", () => {
    let value: NixInput = [];
    for (let level = 0; level < 40; level++) value = [value, value];
    expect(refusal(() => renderNix(nix(value)), "NIX_GEN_TOO_DEEP").hint).toMatch(/letIn/);
  });

  test("throws nothing but its own error, whatever it is given", () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withDate: true, withMap: true, withSparseArray: true }), (value) => {
        try {
          expect(isNixExpr(nix(value as NixInput))).toBe(true);
        } catch (error) {
          expect((error as Error).name).toBe("NixGenError");
        }
      }),
    );
  });
});

test("float prints whole numbers as floats, and -0 with its sign", () => {
  const printed = [1, -1, 1e21, 1e100, -0].map((value) => renderNix(float(value)).trimEnd());
  expect(printed).toEqual(["1.0", "-1.0", "1.0e+21", "1.0e+100", "0.0 * -1.0"]);
  refusal(() => float(Number.NaN), "NIX_GEN_BAD_NUMBER");
});

test("int takes only whole numbers", () => {
  expect(renderNix(int(5))).toBe("5\n");
  refusal(() => int(1.5), "NIX_GEN_BAD_NUMBER");
});

test("an expression can't become text by accident", () => {
  const expr = ref("x");
  expect(() => `${expr as unknown as string}`).toThrow(/str`…`/);
  expect(() => `a${String(expr)}`).toThrow(TypeError);
  expect(isNixExpr({ ...expr })).toBe(false);
  expect(() => renderNix({} as never)).toThrow(TypeError);
});
