import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TerminalText } from "../src/internal/terminal-text.ts";

function normalise(text: string | Uint8Array): string {
  return new TerminalText().push(typeof text === "string" ? new TextEncoder().encode(text) : text);
}

describe("terminal text", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["plain\n", "plain\n"],
    ["a\r\nb\r\n", "a\nb\n"],
    ["a\r\r\nb", "a\nb"],
    ["50 %\r60 %\rdone\n", "50 %\n60 %\ndone\n"],
    ["\u001b[1m\u001b[33mbold\u001b[0m text", "bold text"],
    ["\u001b[2J\u001b[01;01Hfirst\u001b[05;01Hsecond", "first\nsecond"],
    ["\u001b]0;title\u0007shown", "shown"],
    ["\u001b]3008;start=1\u001b\\shown", "shown"],
    ["\u001bPq\u001b[1mrest", "rest"],
    ["\u001b(Bx\u001b=y\u001b7z", "xyz"],
    ["be\u0007ll\u0000 tab\there", "bell tab\there"],
    ["a\u001b[\nb", "a\nb"],
    ["grün 🐇\n", "grün 🐇\n"],
    ["\u009b1mbold\u009b0m \u009b2J\u009b5;1Hthere", "bold \nthere"],
    ["\u009d0;title\u0007a\u009d0;title\u009cb\u009d0;title\u001b\\c", "abc"],
    ["\u0090q\u009ca\u0098s\u009cb\u009ep\u009cc\u009fa\u001b\\d", "abcd"],
    ["\u001b]0;a\u009b31mb \u001b[1\u009b0mc \u001b\u009dtitle\u0007d", "b c d"],
    ["\u009dtitle\u0080a\u0085b\u008ec\u009cd\u001b\u0081e", "abcde"],
    ["a\u200e\u202eb\u2066c\u061cd\u200b\ufeff\u007fe", "abcde"],
  ];
  test.for(cases)("of %j is %j", ([input, output]) => {
    expect(normalise(input)).toBe(output);
  });

  test("is the same however the bytes are split", () => {
    const piece = fc.oneof(
      fc.constantFrom(
        "\u001b",
        "\u009b",
        "\u009c",
        "\u009d",
        "\u202e",
        "[",
        "]",
        "P",
        "\\",
        "\r",
        "\n",
        "\u0007",
        "1;2",
        "H",
        "m",
        "🐇",
        "ß",
      ),
      fc.string({ maxLength: 4 }),
    );
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 40 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 5 })),
        (parts, sizes) => {
          const bytes = new TextEncoder().encode(parts.join(""));
          const split = new TerminalText();
          let text = "";
          for (let at = 0; at < bytes.length; ) {
            const size = sizes.next().value ?? 1;
            text += split.push(bytes.subarray(at, at + size));
            at += size;
          }
          expect(text).toBe(normalise(bytes));
        },
      ),
    );
  });

  test("has nothing without a shape but line ends and tabs, whatever the guest writes", () => {
    const letter = fc.oneof(
      fc.integer({ min: 0, max: 0xa0 }).map((code) => String.fromCharCode(code)),
      fc.constantFrom("\u200f", "\u202e", "\u2069", "\u061c", "\ufeff", "\u{e0001}", "ß", "🐇"),
    );
    fc.assert(
      fc.property(fc.array(letter, { maxLength: 60 }), (letters) => {
        expect(normalise(letters.join(""))).not.toMatch(/[^\P{Cc}\n\t]|\p{Cf}/u);
      }),
    );
  });

  test("has no escape, no carriage return and never more characters than bytes, whatever the guest writes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const text = normalise(bytes);
        for (const control of ["\u001b", "\r", "\u0000"]) expect(text).not.toContain(control);
        expect(text.length).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });

  test.for(["\u001b]", "\u009d"])("comes back after a control string begun by %j that never ends", (begin) => {
    expect(normalise(`${begin}${"x".repeat(5000)}\nlogin:`)).toContain("login:");
  });
});
