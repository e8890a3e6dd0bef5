import type { CommandIo, OutputStream } from "./io.ts";

const ANSI = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const;

/** Colours `text` when `stream` is a terminal and `NO_COLOR` is not set. */
export function style(stream: OutputStream, env: CommandIo["env"], name: keyof typeof ANSI, text: string): string {
  if (stream.isTTY !== true || (env.NO_COLOR ?? "") !== "" || env.TERM === "dumb") return text;
  return `\u001b[${ANSI[name]}m${text}\u001b[0m`;
}

/** `1536` → `1.5 KiB`; exact below one KiB. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  if (value < 1024) return `${value} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (value < 1024) return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
  }
  return `${(value / 1024).toFixed(1)} TiB`;
}

/** `940` → `0.9 s`; `75000` → `1 min 15 s`. */
export function formatDuration(milliseconds: number): string {
  const tenths = Math.round(milliseconds / 100);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
  const whole = Math.round(milliseconds / 1000);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** `1 file`, `2 files`. */
export function countText(count: number | bigint, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 || count === 1n ? one : several}`;
}

/** Left-aligned columns two spaces apart, no trailing blanks; a row shorter than the others is allowed. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  // The last cell is not padded: beside one very long path, a million short ones would each become as long.
  const padded = (row: readonly string[]): string[] =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)));
  return rows.map((row) => padded(row).join("  ").trimEnd()).join("\n");
}

/** Lines of a table whose first column is a mark, which is coloured: ✓ is good, everything else is not. */
export function markedLines(rows: readonly (readonly string[])[], io: CommandIo): string[] {
  return table(rows)
    .split("\n")
    .map((line) => {
      const mark = line.slice(0, 1);
      return style(io.stdout, io.env, mark === "✓" ? "green" : "red", mark) + line.slice(1);
    });
}

/**
 * Makes text of unknown origin safe to print, and what was hidden in it visible: control, format and other characters
 * without a shape become `\x1b` or `\u{202e}`, so that nothing in an error can drive a terminal or reorder a line.
 * Line ends and tabs stay.
 */
export function escapeText(text: string): string {
  return text.replace(/[^\P{C}\n\t]/gu, escapeCharacter);
}

/** The same for a name, which has no business with line ends and tabs either. */
export function escapeName(name: string): string {
  return name.replace(/\p{C}/gu, escapeCharacter);
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

// ECMA-48: control sequences; control strings (DCS, SOS, OSC, PM, APC) with their content, up to ST, the BEL of xterm
// or whatever else ends them; other escapes. Each may begin with ESC and a letter, or with one C1 character.
const ESCAPES =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what has to go
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|(?:\u001b[PX\]^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u0018\u001a\u001b\u009c]*(?:\u0007|\u009c|\u001b\\)?|\u001b[ -/]*[0-~]/g;

/** One line without escape sequences, control and format characters, which what a build prints is full of. */
export function plainLine(text: string): string {
  return text
    .replace(ESCAPES, "")
    .replace(/\p{Cc}+/gu, " ")
    .replace(/\p{C}+/gu, "")
    .trim();
}

/** Cuts a line to `width` characters, the last of them `…` when something is missing. */
export function cutToWidth(line: string, width: number): string {
  const characters = [...line];
  if (characters.length <= width) return line;
  return width <= 0 ? "" : `${characters.slice(0, width - 1).join("")}…`;
}
