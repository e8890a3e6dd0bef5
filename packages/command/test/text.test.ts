import { expect, test } from "vitest";
import { formatBytes, formatDuration, table } from "../src/index.ts";
import { cutToWidth, plainLine } from "../src/text.ts";

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
});

test.each([
  ["\u001b[1;31mred\u001b[0m text", "red text"],
  ["\u001b]8;;link\u0007name\u001b]8;;\u001b\\", "name"],
  ["\u001b(Bplain\u001b7", "plain"],
  ["10%\r20%\r\n\tend", "10% 20% end"],
  ["cut off \u001b[1;3", "cut off 1;3"],
])("plainLine(%j) is one line of text", (text, expected) => {
  expect(plainLine(text)).toBe(expected);
});

test("cutToWidth counts characters, not halves of them, and marks what is missing", () => {
  expect([5, 4, 1, 0, -3].map((width) => cutToWidth("a🐇bcd", width))).toEqual(["a🐇bcd", "a🐇b…", "…", "", ""]);
});
