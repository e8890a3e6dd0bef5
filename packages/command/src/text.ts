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

/** Left-aligned columns two spaces apart, no trailing blanks; a row shorter than the others is allowed. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows.map((row) => `${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ")}`.trimEnd()).join("\n");
}

// ECMA-48 control sequences, operating system commands, and two-character escapes.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what has to go
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])/g;

/** One line without escape sequences and control characters, which what a build prints is full of. */
export function plainLine(text: string): string {
  return text
    .replace(ESCAPES, "")
    .replace(/\p{Cc}+/gu, " ")
    .trim();
}

/** Cuts a line to `width` characters, the last of them `…` when something is missing. */
export function cutToWidth(line: string, width: number): string {
  const characters = [...line];
  if (characters.length <= width) return line;
  return width <= 0 ? "" : `${characters.slice(0, width - 1).join("")}…`;
}
