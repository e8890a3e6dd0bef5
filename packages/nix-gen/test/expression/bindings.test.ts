import { describe, expect, test } from "vitest";
import {
  attrs,
  type Binding,
  bind,
  builtin,
  comment,
  inherit,
  inheritFrom,
  lambda,
  letIn,
  type NixExpr,
  nix,
  recAttrs,
  ref,
  renderNix,
  str,
} from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const print = (expr: NixExpr): string => renderNix(expr).trimEnd();

describe("attrs", () => {
  test("prints every kind of line", () => {
    const expr = attrs([
      comment("what this is\n\nand why"),
      bind("a", 1),
      bind(["b", "c d", ref("e")], comment("two", 2)),
      inherit("f", "g"),
      inheritFrom(ref("pkgs"), "h", "i j"),
    ]);
    expect(print(expr)).toBe(
      [
        "{",
        "  # what this is",
        "  #",
        "  # and why",
        "  a = 1;",
        "  # two",
        '  b."c d".${e} = 2;',
        "  inherit f g;",
        '  inherit (pkgs) h "i j";',
        "}",
      ].join("\n"),
    );
  });

  test.each<[string, Binding[]]>([
    ["the same name", [bind("a", 1), bind("a", 2)]],
    ["a path into a value", [bind("a", {}), bind(["a", "b"], 2)]],
    ["a value over a path", [bind(["a", "b"], 2), bind("a", {})]],
    ["an inherited name", [bind("a", 1), inherit("a")]],
    ["two inherits", [inheritFrom(ref("x"), "a"), inheritFrom(ref("y"), "a")]],
    ["text that only looks computed", [bind("a", 1), bind([nix("a")], 2)]],
    ["the same path", [bind(["a", "b"], 1), bind(["a", "b"], 2)]],
  ])("refuses %s", (_what, bindings) => {
    refusal(() => attrs(bindings), "NIX_GEN_DUPLICATE_ATTRIBUTE");
    refusal(() => recAttrs(bindings), "NIX_GEN_DUPLICATE_ATTRIBUTE");
  });

  test("takes paths that share a beginning, and computed names", () => {
    expect(print(attrs([bind(["a", "b"], 1), bind(["a", "c"], 2), bind([ref("a")], 3)]))).toContain("${a} = 3;");
  });

  test.each([
    () => attrs([{} as Binding]),
    () => attrs([1 as unknown as Binding]),
    () => attrs(ref("x") as never),
    () => attrs(5 as never),
  ])("refuses what is no binding (%#)", (make) => {
    expect(make).toThrow(expect.objectContaining({ code: "NIX_GEN_BAD_VALUE" }));
  });

  test("refuses names that can't be inherited, and empty paths", () => {
    refusal(() => inherit("a b"), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => inherit(), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => inheritFrom(ref("x"), "a\0"), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => bind([], 1), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => bind([5 as never], 1), "NIX_GEN_BAD_IDENTIFIER", "[0]");
  });

  test("names the place of a bad value", () => {
    refusal(() => bind(["a", "b"], { c: undefined as never }), "NIX_GEN_BAD_VALUE", "a.b.c");
  });
});

describe("scopes", () => {
  test("letIn without bindings is its body, with comments above", () => {
    expect(print(letIn({}, 1))).toBe("1");
    expect(print(letIn([comment("one")], 1))).toBe("# one\n1");
  });

  test("letIn and recAttrs print their bindings", () => {
    expect(print(letIn({ a: 1 }, ref("a")))).toBe("let\n  a = 1;\nin\na");
    expect(print(recAttrs({ a: 1, b: ref("a") }))).toBe("rec {\n  a = 1;\n  b = a;\n}");
  });

  test.each(["a b", "", "1a", "in", "or", "é", "a.b", "-a", "${x}"])("refuses %j as a variable", (name) => {
    refusal(() => letIn({ [name]: 1 }, 1), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => lambda(name, 1), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => lambda({ formals: [name] }, 1), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => lambda({ formals: [], as: name }, 1), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => ref(name), "NIX_GEN_BAD_IDENTIFIER");
    refusal(() => builtin(name), "NIX_GEN_BAD_IDENTIFIER");
  });

  test.each(["true", "false", "null", "builtins", "__sub", "__lessThan"])(
    "refuses to bind %s, which literals and operators use",
    (name) => {
      refusal(() => letIn({ [name]: 1 }, 1), "NIX_GEN_BAD_IDENTIFIER");
      refusal(() => letIn([inheritFrom(ref("x"), name)], 1), "NIX_GEN_BAD_IDENTIFIER");
      refusal(() => recAttrs({ [name]: 1 }), "NIX_GEN_BAD_IDENTIFIER");
      refusal(() => lambda(name, 1), "NIX_GEN_BAD_IDENTIFIER");
      expect(print(attrs({ [name]: 1 }))).toBe(`{ ${name} = 1; }`);
    },
  );

  test("refuses computed names in let", () => {
    refusal(() => letIn([bind([str`a${ref("x")}`], 1)], 1), "NIX_GEN_BAD_IDENTIFIER");
  });

  test("refuses the same parameter twice", () => {
    refusal(() => lambda({ formals: ["a", "a"] }, 1), "NIX_GEN_DUPLICATE_ATTRIBUTE");
    refusal(() => lambda({ formals: ["a"], as: "a" }, 1), "NIX_GEN_DUPLICATE_ATTRIBUTE");
  });
});

test("comments may hold anything but what would end them", () => {
  expect(print(comment("*/ ${x} ''\n# y", 1))).toBe("# */ ${x} ''\n# # y\n1");
  for (const bad of ["a\rb", "a\0", "\ud800"]) refusal(() => comment(bad), "NIX_GEN_BAD_COMMENT");
});
