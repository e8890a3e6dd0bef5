import { isPlainAttribute } from "../internal/names.ts";

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  $: "\\$",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/**
 * `text` as it stands between double quotes.
 *
 * Exactly these six characters are escaped: Nix knows no other escape (`\u0041` is `u0041`), `$` could begin a hole, and
 * a raw carriage return would be read as a line feed.
 */
export function escapeText(text: string): string {
  return text.replace(/["\\$\n\r\t]/g, (character) => ESCAPES[character] ?? character);
}

/** `name` as an attribute name, quoted if it has to be. */
export function attributeName(name: string): string {
  return isPlainAttribute(name) ? name : `"${escapeText(name)}"`;
}

/** The digits of `value`, which is not negative; the shortest that read back as the same double. */
export function floatDigits(value: number): string {
  // Nix wants a dot even before an exponent: `1e21` is the number 1 applied to the variable e21.
  const [mantissa = "", exponent] = String(value).split("e");
  const dotted = mantissa.includes(".") ? mantissa : `${mantissa}.0`;
  return exponent === undefined ? dotted : `${dotted}e${exponent}`;
}

/**
 * The lines of an indented string (`''`) that reads back as exactly `text`, without indentation, the last one being what
 * stands before the closing quotes; or undefined when there is none.
 *
 * @see Nix 2.8 `src/libexpr/lexer.l` (IND_STRING) and `parser.y` (stripIndentation)
 */
export function blockLines(text: string): string[] | undefined {
  const lines = text.split("\n");
  const last = lines.at(-1) ?? "";
  // A carriage return becomes a line feed; a last line of spaces is dropped.
  if (lines.length < 2 || text.includes("\r") || /^ +$/.test(last)) return undefined;
  // The least indentation of all lines with something in them is removed; it must be ours alone.
  const solid = lines.filter((line) => !/^ *$/.test(line));
  if (solid.length === 0 || solid.every((line) => line.startsWith(" "))) return undefined;
  return lines.map((line, index) => escapeBlockLine(line, index === lines.length - 1));
}

function escapeBlockLine(line: string, isLast: boolean): string {
  return line.replace(/['$]/g, (character, index: number) => {
    const before = line[index - 1] ?? "";
    const after = line[index + 1] ?? (isLast ? "'" : "\n");
    // The lexer takes `$` and `'` together with the character after them, so only the plainest pairs stay as they are.
    if (character === "$") return /[A-Za-z0-9_(@#]/.test(after) ? "$" : "''$";
    return /['$]/.test(before) || /['$]/.test(after) ? "''\\'" : "'";
  });
}
