import { describe, expect, test } from "vitest";
import { block, concatText, type NixExpr, nix, path, ref, renderNix, source, str } from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const print = (expr: NixExpr): string => renderNix(expr).trimEnd();

describe("str", () => {
  test("makes holes of expressions and text of strings", () => {
    const name = "${not a hole}";
    expect(print(str`${ref("pkgs", "bash")}/bin/sh ${name}\n`)).toBe('"${pkgs.bash}/bin/sh \\${not a hole}\\n"');
  });

  test("escapes a dollar before a hole, where `$$` would swallow it", () => {
    expect(print(str`$${ref("x")}`)).toBe('"\\$${x}"');
  });

  test("is a plain string without holes", () => {
    expect(print(str`a${"b"}c`)).toBe('"abc"');
    expect(print(concatText([]))).toBe('""');
    expect(print(concatText(["a", ref("b"), "", "c"]))).toBe('"a${b}c"');
  });

  test("finds a surrogate pair that a hole puts together, and refuses one that stays apart", () => {
    expect(print(str`\ud83d${"\ude00"}`)).toBe('"😀"');
    refusal(() => str`\ud83d${ref("x")}\ude00`, "NIX_GEN_BAD_STRING");
  });

  test("refuses invalid escapes", () => {
    refusal(() => str`\u{zz}`, "NIX_GEN_BAD_STRING");
  });

  test.each([[nix(1)], [nix(1.5)], [nix(true)], [nix(null)], [nix([])], [5 as unknown as NixExpr]])(
    "refuses a hole that Nix can't put into a string (%#)",
    (hole) => {
      refusal(() => str`a${hole}`, "NIX_GEN_BAD_VALUE", "hole 1");
    },
  );

  test("refuses a path that can't be copied into the store under its own name", () => {
    expect(print(str`${path("./a/b")}`)).toBe('"${./a/b}"');
    expect(print(str`${path(".")}`)).toBe('"${./.}"');
    for (const bad of ["./a b", "./.hidden", "./~x"]) {
      expect(refusal(() => str`${path(bad)}`, "NIX_GEN_BAD_STORE_NAME", "hole 1").hint).toMatch(/source\(\)/);
    }
  });
});

describe("block", () => {
  test("prints lines as people write them", () => {
    const script = "set -e\n\necho \"$out\" ${x} ''a''\n\tdone\n";
    expect(print(block(script))).toBe("''\n  set -e\n\n  echo \"$out\" ''${x} ''\\'''\\'a''\\'''\\'\n  \tdone\n''");
  });

  test.each(["one line", "a\r\nb", "  a\n  b\n", "a\n  ", " \n \n", "\n"])(
    "prints %j as an ordinary string",
    (text) => {
      expect(print(block(text))).toBe(print(nix(text)));
    },
  );

  test("refuses NUL", () => {
    refusal(() => block("a\n\0"), "NIX_GEN_BAD_STRING");
  });
});

describe("path", () => {
  test.each([
    [".", "./."],
    ["./", "./."],
    ["..", "../."],
    ["../..", "../.."],
    ["./a", "./a"],
    ["./a/b-c_1.2+x", "./a/b-c_1.2+x"],
    ["../a", "../a"],
    ["/", "/."],
    ["/etc/hosts", "/etc/hosts"],
    ["./a b", './. + "/a b"'],
    ["../a/${x}", '../. + "/a/\\${x}"'],
    ["/a/\n", '/. + "/a/\\n"'],
    ["./~", './. + "/~"'],
  ])("prints %j as %s", (value, expected) => {
    expect(print(path(value))).toBe(expected);
  });

  test.each(["", "a", "a/b", "~/a", "./a/", "./a//b", "./a/../b", "./a/.", "..a", "<nixpkgs>", "//a", "./.."])(
    "refuses %j",
    (value) => {
      refusal(() => path(value), "NIX_GEN_BAD_PATH");
    },
  );

  test("refuses NUL", () => {
    refusal(() => path("./a\0"), "NIX_GEN_BAD_PATH");
  });
});

test("source gives a file a name that the store takes", () => {
  expect(print(source("./files/My Theme.tar"))).toBe(
    'builtins.path {\n  path = ./. + "/files/My Theme.tar";\n  name = "My-Theme.tar";\n}',
  );
  expect(print(source("."))).toContain('name = "source";');
  expect(print(source("./.bashrc"))).toContain('name = "bashrc";');
  refusal(() => source("./a", "b c"), "NIX_GEN_BAD_STORE_NAME");
});
