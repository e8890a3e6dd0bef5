import { QemuError } from "../errors.ts";

/**
 * An integer of QMP, which has 64 bits: a `number` where that is exact, a `bigint` beyond 2^53. Every integer has only
 * one of the two forms, so `===` compares them; `Number(…)` makes one to calculate with.
 */
export type QmpInteger = number | bigint;

/** One thing that is wrong with a value, and where. */
export interface QmpIssue {
  /** members and indices that lead to it, such as `file.filename` or `bitmaps[2]`; empty for the value itself */
  readonly path: string;
  readonly message: string;
}

/** Deepest nesting that QEMU reads, in `levels`; the message around a command's arguments is the first. */
export const MAX_QMP_DEPTH = 1024;

// 2^53 has 16 digits.
const MAYBE_UNSAFE = /\d{16}/;
const TOKEN_START = /["\d-]/g;
const NUMBER = /-?\d[\d.eE+-]*/y;
const COLON = /\s*:/y;
// 64 bits have at most 20 characters. Longer ones are what they are to QEMU, too: floating point numbers.
const INTEGER = /^-?\d{16,20}$/;

/**
 * Reads JSON with integers as {@link QmpInteger}.
 *
 * @throws {SyntaxError} When it is not JSON; {@link RangeError} when it nests deeper than the parser's stack.
 */
export function parseQmpJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!MAYBE_UNSAFE.test(text)) return plain;
  // JSON.parse gives its callbacks no source text before Node 21, so integers travel as strings, marked as such.
  return JSON.parse(markIntegers(text), (_key, value: unknown) => {
    if (typeof value !== "string") return value;
    return value.startsWith("i") ? BigInt(value.slice(1)) : value.slice(1);
  });
}

/** Valid JSON with every string that is a value marked by an `s`, and unsafe integers as strings marked by an `i`. */
function markIntegers(text: string): string {
  const parts: string[] = [];
  let end = 0;
  TOKEN_START.lastIndex = 0;
  for (let found = TOKEN_START.exec(text); found !== null; found = TOKEN_START.exec(text)) {
    const start = found.index;
    parts.push(text.slice(end, start));
    end = text[start] === '"' ? stringEnd(text, start) : endOf(NUMBER, text, start);
    const token = text.slice(start, end);
    if (text[start] === '"') parts.push(endOf(COLON, text, end) === end ? `"s${token.slice(1)}` : token);
    else parts.push(INTEGER.test(token) && !Number.isSafeInteger(Number(token)) ? `"i${token}"` : token);
    TOKEN_START.lastIndex = end;
  }
  parts.push(text.slice(end));
  return parts.join("");
}

/** Where the string ends that begins at `start`; no pattern, as those run out of stack in long strings. */
function stringEnd(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1); ; quote = text.indexOf('"', quote + 1)) {
    let escapes = quote;
    while (text[escapes - 1] === "\\") escapes -= 1;
    if ((quote - escapes) % 2 === 0) return quote + 1;
  }
}

/** Where a match at `start` ends; `start` itself without one. */
function endOf(pattern: RegExp, text: string, start: number): number {
  pattern.lastIndex = start;
  return pattern.test(text) ? pattern.lastIndex : start;
}

/**
 * Writes a command's arguments as JSON that QEMU reads back as exactly those. Members that are `undefined` are left out.
 *
 * @param command - Whose arguments they are, for the error.
 * @throws {QemuError} `QEMU_QMP_BAD_ARGUMENTS` for what JSON or QEMU's reader of it cannot carry.
 */
export function renderArguments(command: string, args: object): string {
  const issues: QmpIssue[] = [];
  const text = render(args, "", 2, issues) ?? "{}";
  if (issues.length > 0) throw badArguments(command, issues);
  return text;
}

/** The error for arguments that are not sent. */
export function badArguments(command: string, issues: readonly QmpIssue[]): QemuError {
  return new QemuError(
    "QEMU_QMP_BAD_ARGUMENTS",
    `expected valid arguments of ${command}, got\n${renderIssues(issues)}`,
    {
      issues,
    },
  );
}

/** One line for each of some issues. */
export function renderIssues(issues: readonly QmpIssue[]): string {
  return issues.map(({ path, message }) => `  ${path === "" ? "" : `${path}: `}${message}`).join("\n");
}

/** Path of a member. */
export function memberPath(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function render(value: unknown, path: string, depth: number, issues: QmpIssue[]): string | undefined {
  const refuse = (message: string): undefined => {
    issues.push({ path, message });
    return undefined;
  };
  switch (typeof value) {
    case "undefined":
      return undefined;
    case "boolean":
      return String(value);
    case "string":
      return renderText(value, refuse);
    case "number":
      return renderNumber(value, refuse);
    case "bigint":
      return BigInt.asIntN(64, value) === value || BigInt.asUintN(64, value) === value
        ? String(value)
        : refuse(`expected an integer of 64 bits, got ${value}`);
    case "object":
      break;
    default:
      return refuse(`expected a value of JSON, got a ${typeof value}`);
  }
  if (value === null) return "null";
  if (depth > MAX_QMP_DEPTH) return refuse(`expected at most ${MAX_QMP_DEPTH} levels, got more`);
  if (Array.isArray(value)) {
    const items = Array.from(value, (item: unknown, index) =>
      item === undefined
        ? void issues.push({ path: `${path}[${index}]`, message: "expected a value of JSON, got undefined" })
        : render(item, `${path}[${index}]`, depth + 1, issues),
    );
    return `[${items.join(",")}]`;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    return refuse(`expected a plain object, got one of class ${value.constructor?.name ?? "unknown"}`);
  }
  const members: string[] = [];
  for (const [name, member] of Object.entries(value)) {
    const text = render(member, memberPath(path, name), depth + 1, issues);
    if (text !== undefined) members.push(`${renderText(name, refuse)}:${text}`);
  }
  return `{${members.join(",")}}`;
}

function renderText(value: string, refuse: (message: string) => undefined): string | undefined {
  return /[\p{Surrogate}\p{Noncharacter_Code_Point}]/u.test(value)
    ? refuse("expected text of Unicode characters, got a lone surrogate or a noncharacter")
    : JSON.stringify(value);
}

function renderNumber(value: number, refuse: (message: string) => undefined): string | undefined {
  if (!Number.isFinite(value)) return refuse(`expected a finite number, got ${value}`);
  const text = Object.is(value, -0) ? "0" : String(value);
  // What has an exponent is no integer for QEMU and means what it says.
  if (/^-?\d+$/.test(text) && !Number.isSafeInteger(value)) {
    return refuse(`expected a bigint for an integer beyond 2^53, got the number ${text}, which may not be exact`);
  }
  return text;
}
