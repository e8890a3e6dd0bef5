import { expect, test } from "vitest";
import { escapeName, formatBytes, formatDuration, table } from "../src/index.ts";
import { cutToWidth, escapeText, plainLine } from "../src/text.ts";

test("sizes, durations and tables read well", () => {
  expect([1023, 1536, 15 << 20].map(formatBytes)).toEqual(["1023 B", "1.5 KiB", "15 MiB"]);
  expect([940, 59_949, 59_950, 75_000, 119_700].map(formatDuration)).toEqual([
    "0.9 s",
    "59.9 s",
    "1 min 0 s",
    "1 min 15 s",
    "2 min 0 s",
  ]);
  expect(table([["a", "bbb"], ["cccc"], ["d", "e"]])).toBe("a     bbb\ncccc\nd     e");
  expect(
    table([
      ["a", "b ".repeat(9)],
      ["c", "d"],
      ["e", ""],
    ]),
  ).toBe(`a  ${"b ".repeat(8)}b\nc  d\ne`);
});

test.each([
  ["\u001b[1;31mred\u001b[0m text", "red text"],
  ["\u001b]8;;link\u0007name\u001b]8;;\u001b\\", "name"],
  ["\u001b(Bplain\u001b7", "plain"],
  ["10%\r20%\r\n\tend", "10% 20% end"],
  ["cut off \u001b[1;3", "cut off 1;3"],
  ["a\u001bPq#0~-\u001b\\b\u001b_command\u009cc\u001b^private\u0007d\u001bXstring", "abcd"],
  ["a\u009b31mb\u009d0;title\u009cc\u0090q\u001b\\d\u0085e", "abcd e"],
  ["never ends \u001b]0;title", "never ends"],
  ["\u202egpj.\u200bexe\ufeff \ud800", "gpj.exe"],
])("plainLine(%j) is one line of text", (text, expected) => {
  expect(plainLine(text)).toBe(expected);
});

test("cutToWidth counts characters, not halves of them, and marks what is missing", () => {
  expect([5, 4, 1, 0, -3].map((width) => cutToWidth("a🐇bcd", width))).toEqual(["a🐇bcd", "a🐇b…", "…", "", ""]);
});

test.each([
  ["plain 🐇 ünïcode\n\ttext", "plain 🐇 ünïcode\n\ttext"],
  ["\u001b]0;title\u0007\r\u007f", "\\x1b]0;title\\x07\\x0d\\x7f"],
  ["\u009b31m\u202e\u200b\ufeff", "\\x9b31m\\u{202e}\\u{200b}\\u{feff}"],
  ["\ud800 \u{e0001}", "\\u{d800} \\u{e0001}"],
])("escapeText(%j) shows what was hidden", (text, expected) => {
  expect(escapeText(text)).toBe(expected);
});

test("a name keeps no line ends either", () => {
  expect(escapeName("a\n\tb\u001b[2J\u202e")).toBe("a\\x0a\\x09b\\x1b[2J\\u{202e}");
});
