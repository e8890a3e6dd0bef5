import fc from "fast-check";

/** Fragments that mean something to Nix's lexer, or to people who write escapers. */
const FRAGMENTS = [
  "$", "${", "$${", "\\${", "''${", "''", "'", "''\\", "'''", "\"", "\\", "\\\\", "\\n", "\n", "\r", "\r\n", "\t", " ",
  "  ", "}", "{", "${x}", "\\\"", "/*", "*/", "#", "//", "<nixpkgs>", "http://x.y", "a/b", "~/", "''$", "$'", "$$", "\u0001",
  "\u001b", "\u007f", "\u0085", "\u00a0", "\u2028", "\ufeff", "\ufffd", "\u{10ffff}", "é", "e\u0301", "😀", "\u202e",
  "__sub", "or", "inherit", ";", "=", "\v", "\f", "\b", "a", "x", "1.5e3", "@", "(", "#!", "`", "%s",
]; // biome-ignore format: one fragment is no line

/** Text made to be misunderstood. */
export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.array(fc.constantFrom(...FRAGMENTS), { maxLength: 12 }).map((parts) => parts.join("")),
  fc.string({ unit: "binary", maxLength: 20 }).map((text) => text.replaceAll("\0", "0")),
);

/** Several lines, indented in every way. */
export const hostileLines: fc.Arbitrary<string> = fc
  .array(
    fc.tuple(
      fc.constantFrom("", " ", "  ", "    ", "\t", " \t"),
      hostileText.map((text) => text.replaceAll("\r", "")),
    ),
    {
      maxLength: 6,
    },
  )
  .map((lines) => lines.map(([space, text]) => space + text).join("\n"));

/** Nested values that JSON keeps exactly. */
export const plainValue: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    hostileText,
    fc.maxSafeInteger(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(hostileText, tie("value"), { maxKeys: 5 }),
  ),
})).value;

/** Doubles that Nix can read, with many close to the edges. */
export const normalDouble: fc.Arbitrary<number> = fc
  .oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.double({ noNaN: true, min: -1, max: 1 }),
    fc.maxSafeInteger(),
    fc.integer({ min: -330, max: 308 }).map((exponent) => Number(`1e${exponent}`)),
  )
  .filter((value) => value === 0 || Math.abs(value) >= 2.2250738585072014e-308);
