import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { block, call, float, int, lambda, type NixInput, nix, op, ref, renderNix } from "../../src/index.ts";
import { hostileLines, hostileText, normalDouble, plainValue } from "../helpers/arbitrary.ts";
import { modelled } from "../helpers/model.ts";
import { evaluate, findOracles, type Oracle, parseTree, SEED } from "../helpers/oracle.ts";
import { twin, VARIABLES } from "../helpers/syntax.ts";

const oracles = findOracles();

if (oracles.length === 0) test.skip("comparing with Nix itself, which needs nix-instantiate (apt: nix-bin)");

describe.each(oracles)("Nix $version", (oracle) => {
  test("reads 10,000 hostile strings as they were", () => {
    const texts = fc.sample(hostileText, { numRuns: 10_000, seed: SEED });
    expectSame(oracle, texts, evaluate(oracle, renderNix(nix(texts))));
  });

  test("reads 5,000 hostile texts in indented strings as they were", () => {
    const texts = fc.sample(hostileLines, { numRuns: 5_000, seed: SEED });
    // At three depths, since it is indentation that these strings are about.
    const shapes = [(x: NixInput) => x, (x: NixInput) => nix({ k: { l: x } }), (x: NixInput) => nix([[x]])];
    const source = renderNix(nix(texts.map((text, index) => shapes[index % 3]?.(block(text)) ?? null)));
    expect(source.split("''\n").length).toBeGreaterThan(500);
    const expected = texts.map((text, index) => [text, { k: { l: text } }, [[text]]][index % 3]);
    expectSame(oracle, expected, evaluate(oracle, source));
  });

  test("reads 5,000 nested values as they were", () => {
    const values = fc.sample(plainValue, { numRuns: 5_000, seed: SEED });
    expectSame(oracle, values, evaluate(oracle, renderNix(nix(values as NixInput))));
  });

  test("reads 5,000 floats to the last bit", () => {
    const values = fc.sample(normalDouble, { numRuns: 5_000, seed: SEED });
    // Nix prints six digits of a float, so it has to compare them itself, with what its JSON reader makes of them.
    const compared = values.map((value) => {
      const digits = Number.isInteger(value) ? `${value}.0`.replace(/(e.*)\.0$/, "$1") : String(value);
      return op("==", float(value), call(ref("builtins", "fromJSON"), digits));
    });
    expectSame(
      oracle,
      values.map(() => true),
      evaluate(oracle, renderNix(nix(compared))),
    );
  });

  test("keeps the sign of a float 0 and both ends of the integers", () => {
    const shown = [float(-0), float(0), int(-(2n ** 63n)), int(2n ** 63n - 1n)].map((value) =>
      call(ref("builtins", "toString"), value),
    );
    const expected = ["-0.000000", "0.000000", "-9223372036854775808", "9223372036854775807"];
    expect(evaluate(oracle, renderNix(nix(shown)))).toEqual(expected);
  });

  test("evaluates 3,000 typed expressions to what JavaScript makes of them", () => {
    const samples = fc.sample(modelled, { numRuns: 3_000, seed: SEED });
    // A number that is 0 has no sign in Nix.
    const expected = samples.map(({ value }) => JSON.parse(JSON.stringify(value)));
    expectSame(oracle, expected, evaluate(oracle, renderNix(nix(samples.map(({ expr }) => expr)))));
  });

  test("sees the same syntax in 2,000 random expressions as with parentheses everywhere", () => {
    const twins = fc.sample(twin, { numRuns: 2_000, seed: SEED });
    const scope = { formals: VARIABLES, open: true };
    const ours = renderNix(lambda(scope, nix(twins.map(({ expr }) => expr))));
    const naive = `{ ${VARIABLES.join(", ")}, ... }: [\n${twins.map((each) => `(${each.naive})`).join("\n")}\n]`;
    if (parseTree(oracle, ours) === parseTree(oracle, naive)) return;
    for (const each of twins) {
      const [one, other] = [renderNix(lambda(scope, each.expr)), `{ ${VARIABLES.join(", ")}, ... }: ${each.naive}`];
      expect(parseTree(oracle, one), `seed ${SEED}\n${one}\n${other}`).toBe(parseTree(oracle, other));
    }
  });
});

function expectSame({ version }: Oracle, expected: readonly unknown[], actual: unknown): void {
  if (!Array.isArray(actual)) throw new Error(`expected a list of Nix ${version}`);
  expect(actual.length).toBe(expected.length);
  for (const [index, value] of expected.entries()) {
    expect(actual[index], `value ${index}, seed ${SEED}, Nix ${version}`).toEqual(value);
  }
}
