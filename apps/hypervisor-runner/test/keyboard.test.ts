import { describe, expect, test } from "vitest";
import { EscapeReader } from "../src/keyboard.ts";

describe("keys of a terminal", () => {
  test.each([
    ["everything goes to the guest, Ctrl-C too", ["ls\r", "\u0003"], "ls\r\u0003", false],
    ["Ctrl-A x ends it", ["ls\u0001xmore"], "ls", true],
    ["also when they come one by one", ["\u0001", "x"], "", true],
    ["Ctrl-A twice is one", ["\u0001\u0001x"], "\u0001x", false],
    ["Ctrl-A before anything else is nothing", ["\u0001bx"], "bx", false],
  ])("%s", (_, chunks, typed, quit) => {
    const reader = new EscapeReader();
    const read = chunks.map((chunk) => reader.read(Buffer.from(chunk)));
    expect(Buffer.concat(read.map((keys) => keys.typed)).toString()).toBe(typed);
    expect(read.at(-1)?.quit).toBe(quit);
  });
});
