import { describe, expect, test } from "vitest";
import {
  assertThat,
  attrs,
  builtin,
  call,
  comment,
  DEFAULT_MAX_DEPTH,
  has,
  ifElse,
  inheritFrom,
  lambda,
  letIn,
  type NixExpr,
  negate,
  nix,
  not,
  op,
  path,
  ref,
  renderNix,
  select,
  withScope,
} from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const print = (expr: NixExpr): string => renderNix(expr).trimEnd();
const [a, b, c, f, x] = [ref("a"), ref("b"), ref("c"), ref("f"), ref("x")];

describe("parentheses", () => {
  test.each<[NixExpr, string]>([
    [op("+", a, op("*", b, c)), "a + b * c"],
    [op("*", a, op("+", b, c)), "a * (b + c)"],
    [op("-", op("-", a, b), c), "(a - b) - c"],
    [op("-", a, b, c), "a - b - c"],
    [op("-", a, op("-", b, c)), "a - (b - c)"],
    [op("==", op("==", a, b), c), "(a == b) == c"],
    [op("->", a, op("->", b, c)), "a -> (b -> c)"],
    [op("//", a, op("//", b, c)), "a // (b // c)"],
    [op("&&", op("||", a, b), c), "(a || b) && c"],
    [op("||", op("&&", a, b), c), "a && b || c"],
    [op("<", op("++", a, b), c), "a ++ b < c"],
    [not(op("==", a, b)), "!(a == b)"],
    [not(has(a, "b")), "!a ? b"],
    [not(not(a)), "!!a"],
    [op("++", not(a), b), "(!a) ++ b"],
    [negate(negate(a)), "-(-a)"],
    [negate(nix(-1)), "-(-1)"],
    [negate(path("./x")), "-(./x)"],
    [negate(call(path("./x"), 1)), "-(./x 1)"],
    [call(negate(f), a), "(-f) a"],
    [negate(call(f, a)), "-f a"],
    [op("-", 1, nix(-1)), "1 - -1"],
    [call(call(f, a), b), "f a b"],
    [call(f, call(f, a), nix(-1)), "f (f a) (-1)"],
    [call(lambda("x", x), 1), "(x: x) 1"],
    [nix([call(f, a), select(a, "b"), not(a)]), "[ (f a) a.b (!a) ]"],
    [select(select(a, "b"), "c"), "a.b.c"],
    [select(select(a, "b"), "c", 1), "(a.b).c or 1"],
    [select(select(a, "b", 1), "c"), "(a.b or 1).c"],
    [select(a, "b", select(c, "d", 1)), "a.b or (c.d or 1)"],
    [select(nix(1), "b"), "(1).b"],
    [select(path("./x"), "b"), "(./x).b"],
    [select(call(f, a), "b"), "(f a).b"],
    [nix([select(a, "b", 1)]), "[ a.b or 1 ]"],
    [has(negate(a), "b"), "-a ? b"],
    [has(has(a, "b"), "c"), "(a ? b) ? c"],
    [op("+", ifElse(a, b, c), 1), "(if a then b else c) + 1"],
    [ifElse(a, b, op("+", c, 1)), "if a then b else c + 1"],
    [op("==", path("./a b"), 1), './. + "/a b" == 1'],
    [call(f, path("./a b")), 'f (./. + "/a b")'],
    [call(builtin("map"), f), "builtins.map f"],
    [withScope(a, b), "with a; b"],
    [nix([withScope(a, b)]), "[ (with a; b) ]"],
  ])("%#: %s", (expr, expected) => {
    expect(print(expr)).toBe(expected);
  });
});

describe("layout", () => {
  test("looks like Nix that a person wrote", () => {
    const expr = comment(
      "A module.",
      lambda(
        { formals: { pkgs: undefined, lib: undefined, debug: false }, open: true, as: "args" },
        letIn(
          [inheritFrom(ref("lib"), "mkIf", "optional")],
          attrs({
            imports: [path("./hardware.nix"), path("./My Disks.nix")],
            services: { sshd: { enable: true, ports: [22] } },
            users: call(ref("mkIf"), ref("debug"), { root: { password: "" }, shells: [] }),
            packages: op(
              "++",
              withScope(ref("pkgs"), [ref("git"), ref("vim")]),
              call(ref("optional"), ref("debug"), x),
            ),
            assertion: assertThat(op(">=", 2, 1), "ok"),
            map: call(builtin("map"), lambda("x", lambda("y", { inherit: ref("x"), y: ref("y") })), [1, 2]),
            level: ifElse(ref("debug"), "d".repeat(60), ifElse(ref("quiet"), "q".repeat(60), null)),
          }),
        ),
      ),
    );
    expect(renderNix(expr)).toMatchInlineSnapshot(`
      "# A module.
      { pkgs, lib, debug ? false, ... }@args:
      let
        inherit (lib) mkIf optional;
      in
      {
        imports = [ ./hardware.nix (./. + "/My Disks.nix") ];
        services = {
          sshd = {
            enable = true;
            ports = [ 22 ];
          };
        };
        users = mkIf debug {
          root = { password = ""; };
          shells = [ ];
        };
        packages = (with pkgs; [ git vim ]) ++ optional debug x;
        assertion =
          assert 2 >= 1;
          "ok";
        map =
          builtins.map
            (x: y: {
              "inherit" = x;
              y = y;
            })
            [ 1 2 ];
        level =
          if debug then
            "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
          else if quiet then
            "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
          else
            null;
      }
      "
    `);
  });

  test("breaks at the asked width, and never inside a string", () => {
    const expr = nix({ list: ["aaaa", "bbbb"], call: "c".repeat(30) });
    expect(renderNix(expr, { width: 10 })).toBe(
      `{\n  list = [\n    "aaaa"\n    "bbbb"\n  ];\n  call = "${"c".repeat(30)}";\n}\n`,
    );
  });

  test("has no trailing blanks", () => {
    const printed = renderNix(
      nix({ a: [comment("x\n\ny ", 1)], b: { c: {}, d: "x ".repeat(80) }, e: op("+", "y".repeat(99), a) }),
    );
    expect(printed).not.toMatch(/[ \t]$/m);
  });
});

test("op checks its operands", () => {
  refusal(() => op("+", 1), "NIX_GEN_BAD_VALUE");
  refusal(() => op("==", 1, 2, 3), "NIX_GEN_BAD_VALUE");
  refusal(() => op("+ x;" as "+", 1, 2), "NIX_GEN_BAD_VALUE");
  refusal(() => op("+", 1, Number.NaN), "NIX_GEN_BAD_NUMBER", "operand 2");
  refusal(() => call(f), "NIX_GEN_BAD_VALUE");
  refusal(() => op("++", ...Array.from({ length: DEFAULT_MAX_DEPTH + 1 }, () => a)), "NIX_GEN_TOO_DEEP");
});
