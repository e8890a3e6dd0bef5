import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { QemuError } from "../src/index.ts";
import { parseQmpJson, renderArguments } from "../src/qmp/json.ts";

const seed = Number(process.env.LEVERET_SEED ?? Date.now() % 2 ** 31);

/** Integers in the one form that QMP gives them. */
const integer = fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n).map((value) => {
  return BigInt(Number.MIN_SAFE_INTEGER) <= value && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
});
const text = fc
  .oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[is"\\0-9]{0,40}$/))
  .filter((value) => !/[\p{Surrogate}\p{Noncharacter_Code_Point}]/u.test(value));
const { value: anything } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.oneof(
      integer,
      fc.double({ noNaN: true, noDefaultInfinity: true, noInteger: true }),
      text,
      fc.boolean(),
      fc.constant(null),
    ),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(
      text.filter((name) => name !== "__proto__"),
      tie("value"),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
}));

test(`what is written is read back as it was (seed ${seed})`, () => {
  const holds = fc.property(anything, (value) => {
    expect(parseQmpJson(renderArguments("x", { value }))).toEqual({ value });
  });
  fc.assert(holds, { seed, numRuns: 1000 });
});

test(`every other reader of JSON agrees, but for what it rounds (seed ${seed})`, () => {
  const rounded = (_name: string, value: unknown): unknown => (typeof value === "bigint" ? Number(value) : value);
  const holds = fc.property(fc.json(), (json) => {
    expect(JSON.stringify(parseQmpJson(json), rounded)).toBe(JSON.stringify(JSON.parse(json)));
  });
  fc.assert(holds, { seed, numRuns: 300 });
});

test.for(["x", '\\"', "1", "é", "\\\\"])("a line full of %j beside a large integer is read", (piece) => {
  const long = piece.repeat(2_000_000);
  const { return: text, a } = parseQmpJson(`{"return": "${long}", "a": 9007199254740993}`) as Record<string, unknown>;
  expect([text === JSON.parse(`"${long}"`), a]).toEqual([true, 9007199254740993n]);
});

test("a number of more than 64 bits is what it is to QEMU, in time", () => {
  expect(parseQmpJson("[18446744073709551615, 118446744073709551615]")).toEqual([
    2n ** 64n - 1n,
    Number("118446744073709551615"),
  ]);
  expect(parseQmpJson(`[${"1".repeat(1_000_000)}]`)).toEqual([Number.POSITIVE_INFINITY]);
});

describe("arguments that JSON or QEMU's reader of it cannot carry", () => {
  const deep = (levels: number): object => (levels === 1 ? {} : { a: deep(levels - 1) });
  const cycle: { self?: object } = {};
  cycle.self = cycle;
  test.for<[string, object, string, string]>([
    ["NaN", { a: Number.NaN }, "a", "expected a finite number, got NaN"],
    [
      "a number that may not be exact",
      { a: [2 ** 64] },
      "a[0]",
      "expected a bigint for an integer beyond 2^53, got the number 18446744073709552000, which may not be exact",
    ],
    ["more than 64 bits", { a: 2n ** 64n }, "a", "expected an integer of 64 bits, got 18446744073709551616"],
    [
      "half a character",
      { a: "\ud83d" },
      "a",
      "expected text of Unicode characters, got a lone surrogate or a noncharacter",
    ],
    [
      "half a character in a name",
      { "\ud83d": 1 },
      "",
      "expected text of Unicode characters, got a lone surrogate or a noncharacter",
    ],
    [
      "a noncharacter",
      { a: "\ufffe" },
      "a",
      "expected text of Unicode characters, got a lone surrogate or a noncharacter",
    ],
    ["a hole", { a: [1, undefined] }, "a[1]", "expected a value of JSON, got undefined"],
    ["a function", { a: () => 1 }, "a", "expected a value of JSON, got a function"],
    ["bytes", { a: new Uint8Array(1) }, "a", "expected a plain object, got one of class Uint8Array"],
    ["1024 levels in a message", deep(1024), Array(1023).fill("a").join("."), "expected at most 1024 levels, got more"],
    ["a cycle", cycle, Array(1023).fill("self").join("."), "expected at most 1024 levels, got more"],
  ])("%s", ([, args, path, message]) => {
    const error = ((): unknown => {
      try {
        return renderArguments("x", args);
      } catch (reason) {
        return reason;
      }
    })();
    expect(error).toBeInstanceOf(QemuError);
    expect(error).toMatchObject({ code: "QEMU_QMP_BAD_ARGUMENTS", issues: [{ path, message }] });
  });

  test("undefined members are left out", () => {
    expect(renderArguments("x", { a: undefined, b: { c: undefined } })).toBe('{"b":{}}');
  });
});
