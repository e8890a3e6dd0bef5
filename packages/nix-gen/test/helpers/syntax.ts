import fc from "fast-check";
import {
  assertThat,
  attrs,
  type BinaryOperator,
  bind,
  builtin,
  call,
  comment,
  float,
  has,
  ifElse,
  inherit,
  inheritFrom,
  lambda,
  letIn,
  type NixExpr,
  negate,
  nix,
  not,
  op,
  path,
  recAttrs,
  ref,
  select,
  str,
  withScope,
} from "../../src/index.ts";
import { hostileText } from "./arbitrary.ts";

/** An expression as the library makes it, and as the simplest possible printer would: parentheses around everything. */
export interface Twin {
  readonly expr: NixExpr;
  readonly naive: string;
  /** `x.a` without parentheses, which `.b` may follow: nobody writes `(x.a).b` */
  readonly selection?: string;
}

/** Variables that every generated expression may use; bind them around it. */
export const VARIABLES = ["a", "b", "c", "d"];

const RIGHT_ASSOCIATIVE = new Set(["++", "//", "->"]);
const OPERATORS: readonly BinaryOperator[] = [
  "++", "*", "/", "+", "-", "//", "<", "<=", ">", ">=", "==", "!=", "&&", "||", "->",
]; // biome-ignore format: a row
const CHAINS: readonly BinaryOperator[] = ["++", "*", "/", "+", "-", "//", "&&", "||"];

const ESCAPE: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function quoted(text: string): string {
  return `"${text.replace(/["\\$\n\r\t]/g, (character) => ESCAPE[character] ?? `\\${character}`)}"`;
}

const variable = fc.constantFrom(...VARIABLES);
const attribute = fc.oneof(variable, fc.constantFrom("x-y", "x'", "_1", "or", "true"), hostileText);

/** Every construct of the language in every place, two thousand ways. */
export const twin: fc.Arbitrary<Twin> = fc.letrec<{ twin: Twin }>((tie) => {
  const sub = tie("twin");
  const atoms: fc.Arbitrary<Twin>[] = [
    variable.map((name) => ({ expr: ref(name), naive: name })),
    fc.bigInt(-9n, 9n).map((value) => ({ expr: nix(value), naive: value < 0n ? `(-${-value})` : `${value}` })),
    fc.constantFrom(
      { expr: nix(-(2n ** 63n)), naive: "(-9223372036854775807 - 1)" },
      { expr: float(-2.5), naive: "(-2.5)" },
      { expr: float(1e21), naive: "1.0e21" },
      { expr: nix({}), naive: "{}" },
      { expr: nix([]), naive: "[]" },
      { expr: path("./a b"), naive: '(./. + "/a b")' },
      { expr: path("../x/y"), naive: "../x/y" },
      { expr: path(".."), naive: "../." },
      { expr: path("/"), naive: "/." },
      { expr: builtin("map"), naive: "(builtins.map)", selection: "builtins.map" },
    ),
    hostileText.map((text) => ({ expr: nix(text), naive: quoted(text) })),
  ];
  const pair = fc.tuple(sub, sub);
  const triple = fc.tuple(sub, sub, sub);
  const compound: fc.Arbitrary<Twin>[] = [
    fc.tuple(fc.constantFrom(...OPERATORS), pair).map(([operator, [x, y]]) => ({
      expr: op(operator, x.expr, y.expr),
      naive: `((${x.naive}) ${operator} (${y.naive}))`,
    })),
    fc.tuple(fc.constantFrom(...CHAINS), triple).map(([operator, [x, y, z]]) => ({
      expr: op(operator, x.expr, y.expr, z.expr),
      naive: RIGHT_ASSOCIATIVE.has(operator)
        ? `((${x.naive}) ${operator} ((${y.naive}) ${operator} (${z.naive})))`
        : `(((${x.naive}) ${operator} (${y.naive})) ${operator} (${z.naive}))`,
    })),
    sub.map((x) => ({ expr: not(x.expr), naive: `(!(${x.naive}))` })),
    sub.map((x) => ({ expr: negate(x.expr), naive: `(-(${x.naive}))` })),
    fc
      .tuple(sub, attribute)
      .map(([x, name]) => ({ expr: has(x.expr, name), naive: `((${x.naive}) ? ${quoted(name)})` })),
    fc.tuple(sub, attribute).map(([x, name]) => {
      const selection = `${x.selection ?? `(${x.naive})`}.${quoted(name)}`;
      return { expr: select(x.expr, name), naive: `(${selection})`, selection };
    }),
    fc.tuple(pair, attribute, variable).map(([[x, y], name, inner]) => ({
      expr: select(x.expr, [name, ref(inner)], y.expr),
      naive: `((${x.naive}).${quoted(name)}.\${${inner}} or (${y.naive}))`,
    })),
    fc.array(sub, { maxLength: 8 }).map((items) => ({
      expr: nix(items.map(({ expr }) => expr)),
      naive: `[${items.map(({ naive }) => `(${naive})`).join(" ")}]`,
    })),
    fc.tuple(pair, fc.boolean()).map(([[x, y], recursive]) => ({
      expr: (recursive ? recAttrs : attrs)([
        comment("first\n\n last "),
        bind(["x", "y"], x.expr),
        bind(["x", "${z}"], comment("what it is", y.expr)),
        inherit("a", "b"),
        inheritFrom(x.expr, "c"),
        bind([ref("d"), "e"], 1),
      ]),
      naive: `(${recursive ? "rec " : ""}{ x.y = (${x.naive}); x."\\\${z}" = (${y.naive}); inherit a b; inherit (${x.naive}) c; \${d}.e = 1; })`,
    })),
    sub.map((x) => ({ expr: attrs({ k: x.expr }), naive: `{ k = (${x.naive}); }` })),
    fc.tuple(variable, sub).map(([name, x]) => ({ expr: lambda(name, x.expr), naive: `(${name}: (${x.naive}))` })),
    fc.tuple(pair, fc.boolean(), fc.boolean()).map(([[x, y], open, named]) => ({
      expr: lambda({ formals: { a: undefined, z: x.expr }, open, ...(named ? { as: "all" } : {}) }, y.expr),
      naive: `({ a, z ? (${x.naive})${open ? ", ..." : ""} }${named ? "@all" : ""}: (${y.naive}))`,
    })),
    pair.map(([x, y]) => ({ expr: call(x.expr, y.expr), naive: `((${x.naive}) (${y.naive}))` })),
    triple.map(([x, y, z]) => ({
      expr: call(x.expr, y.expr, z.expr),
      naive: `((${x.naive}) (${y.naive}) (${z.naive}))`,
    })),
    pair.map(([x, y]) => ({ expr: letIn({ a: x.expr }, y.expr), naive: `(let a = (${x.naive}); in (${y.naive}))` })),
    triple.map(([x, y, z]) => ({
      expr: ifElse(x.expr, y.expr, z.expr),
      naive: `(if (${x.naive}) then (${y.naive}) else (${z.naive}))`,
    })),
    pair.map(([x, y]) => ({ expr: withScope(x.expr, y.expr), naive: `(with (${x.naive}); (${y.naive}))` })),
    pair.map(([x, y]) => ({ expr: assertThat(x.expr, y.expr), naive: `(assert (${x.naive}); (${y.naive}))` })),
    fc.tuple(hostileText, sub).map(([text, x]) => ({
      expr: comment(text.replaceAll("\r", ""), x.expr),
      naive: x.naive,
    })),
    fc.tuple(hostileText, variable, hostileText).map(([before, name, after]) => ({
      expr: str`${before}${select(ref(name), "out")}${after}`,
      naive: `"${quoted(before).slice(1, -1)}\${${name}.out}${quoted(after).slice(1, -1)}"`,
    })),
  ];
  return { twin: fc.oneof({ maxDepth: 4, depthSize: "medium" }, fc.oneof(...atoms), ...compound) };
}).twin;
