import fc from "fast-check";
import {
  call,
  has,
  ifElse,
  lambda,
  letIn,
  type NixExpr,
  negate,
  nix,
  not,
  op,
  recAttrs,
  ref,
  select,
  str,
} from "../../src/index.ts";
import { hostileText } from "./arbitrary.ts";

/** An expression and what it has to evaluate to. */
export interface Modelled<T> {
  readonly expr: NixExpr;
  readonly value: T;
}

type Types = {
  number: Modelled<number>;
  boolean: Modelled<boolean>;
  string: Modelled<string>;
  list: Modelled<readonly unknown[]>;
  record: Modelled<Record<string, unknown>>;
  any: Modelled<unknown>;
};

const COMPARE = {
  "<": (x: number, y: number) => x < y,
  "<=": (x: number, y: number) => x <= y,
  ">": (x: number, y: number) => x > y,
  ">=": (x: number, y: number) => x >= y,
  "==": (x: number, y: number) => x === y,
  "!=": (x: number, y: number) => x !== y,
} as const;

const ARITHMETIC = {
  "+": (x: number, y: number) => x + y,
  "-": (x: number, y: number) => x - y,
  "*": (x: number, y: number) => x * y,
} as const;

const LOGIC = {
  "&&": (x: boolean, y: boolean) => x && y,
  "||": (x: boolean, y: boolean) => x || y,
  "->": (x: boolean, y: boolean) => !x || y,
} as const;

const key = fc.oneof(fc.constantFrom("a", "b", "or", "in", "x-y"), hostileText).filter((name) => name !== "__proto__");

/** Well-typed expressions with the value that JavaScript gives them. */
export const modelled: fc.Arbitrary<Modelled<unknown>> = fc.letrec<Types>((tie) => {
  const size = { maxDepth: 5, depthSize: "medium", depthIdentifier: "model" } as const;
  const [number, boolean, string, list, record] = [
    tie("number"),
    tie("boolean"),
    tie("string"),
    tie("list"),
    tie("record"),
  ];
  const either = <T>(branch: fc.Arbitrary<Modelled<T>>): fc.Arbitrary<Modelled<T>> =>
    fc.tuple(boolean, branch, branch).map(([test, yes, no]) => ({
      expr: ifElse(test.expr, yes.expr, no.expr),
      value: test.value ? yes.value : no.value,
    }));
  const bound = <T>(branch: fc.Arbitrary<Modelled<T>>): fc.Arbitrary<Modelled<T>> =>
    fc.tuple(branch, fc.constantFrom("let", "name", "pattern", "default", "rec")).map(([{ expr, value }, form]) => {
      const body = ref("v");
      switch (form) {
        case "let":
          return { expr: letIn({ v: expr }, body), value };
        case "name":
          return { expr: call(lambda("v", body), expr), value };
        case "pattern":
          return { expr: call(lambda({ formals: ["v"], open: true }, body), { v: expr, w: 1 }), value };
        case "default":
          return { expr: call(lambda({ formals: { v: expr }, as: "all" }, body), {}), value };
        default:
          return { expr: select(recAttrs({ v: expr, w: body }), "w"), value };
      }
    });
  const chosen = <T>(branch: fc.Arbitrary<Modelled<T>>): fc.Arbitrary<Modelled<T>> =>
    fc.tuple(record, key, branch).map(([{ expr, value: fields }, name, { expr: other, value }]) =>
      // A name that is there may have a value of another type.
      Object.hasOwn(fields, name) ? { expr: other, value } : { expr: select(expr, name, other), value },
    );
  const shapes = <T>(branch: fc.Arbitrary<Modelled<T>>): fc.Arbitrary<Modelled<T>>[] => [
    either(branch),
    bound(branch),
    chosen(branch),
  ];
  return {
    number: fc.oneof(
      size,
      fc.integer({ min: -9, max: 9 }).map((value) => ({ expr: nix(value), value })),
      fc.tuple(fc.constantFrom("+", "-", "*"), number, number).map(([operator, x, y]) => ({
        expr: op(operator, x.expr, y.expr),
        value: ARITHMETIC[operator](x.value, y.value),
      })),
      fc.tuple(number, number, number).map(([x, y, z]) => ({
        expr: op("-", x.expr, y.expr, z.expr),
        value: x.value - y.value - z.value,
      })),
      fc.tuple(number, fc.integer({ min: 1, max: 9 })).map(([x, y]) => ({
        expr: op("/", x.expr, y),
        value: Math.trunc(x.value / y),
      })),
      number.map(({ expr, value }) => ({ expr: negate(expr), value: -value })),
      ...shapes(number),
    ),
    boolean: fc.oneof(
      size,
      fc.boolean().map((value) => ({ expr: nix(value), value })),
      fc.tuple(fc.constantFrom("<", "<=", ">", ">=", "==", "!="), number, number).map(([operator, x, y]) => ({
        expr: op(operator, x.expr, y.expr),
        value: COMPARE[operator](x.value, y.value),
      })),
      fc.tuple(fc.constantFrom("&&", "||", "->"), boolean, boolean).map(([operator, x, y]) => ({
        expr: op(operator, x.expr, y.expr),
        value: LOGIC[operator](x.value, y.value),
      })),
      fc
        .tuple(record, key)
        .map(([{ expr, value }, name]) => ({ expr: has(expr, name), value: Object.hasOwn(value, name) })),
      boolean.map(({ expr, value }) => ({ expr: not(expr), value: !value })),
      ...shapes(boolean),
    ),
    string: fc.oneof(
      size,
      hostileText.map((value) => ({ expr: nix(value), value })),
      fc.tuple(string, string).map(([x, y]) => ({ expr: op("+", x.expr, y.expr), value: x.value + y.value })),
      fc.tuple(hostileText, string, hostileText).map(([before, { expr, value }, after]) => ({
        expr: str`${before}${expr}$${after}`,
        value: `${before}${value}$${after}`,
      })),
      ...shapes(string),
    ),
    list: fc.oneof(
      size,
      fc.array(tie("any"), { maxLength: 3 }).map((items) => ({
        expr: nix(items.map(({ expr }) => expr)),
        value: items.map(({ value }) => value),
      })),
      fc.tuple(list, list, list).map(([x, y, z]) => ({
        expr: op("++", x.expr, y.expr, z.expr),
        value: [...x.value, ...y.value, ...z.value],
      })),
      ...shapes(list),
    ),
    record: fc.oneof(
      size,
      fc.dictionary(key, tie("any"), { maxKeys: 3 }).map((fields) => {
        const entries = Object.entries(fields);
        return {
          expr: nix(Object.fromEntries(entries.map(([name, { expr }]) => [name, expr]))),
          value: Object.fromEntries(entries.map(([name, { value }]) => [name, value])),
        };
      }),
      fc.tuple(record, record).map(([x, y]) => ({
        expr: op("//", x.expr, y.expr),
        value: { ...x.value, ...y.value },
      })),
      ...shapes(record),
    ),
    any: fc.oneof(size, number, boolean, string, list, record),
  };
}).any;
