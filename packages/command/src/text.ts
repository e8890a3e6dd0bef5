import type { CommandIo, OutputStream } from "./io.ts";

const ANSI = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const;

/** Colours `text` when `stream` is a terminal and `NO_COLOR` is not set. */
export function style(stream: OutputStream, env: CommandIo["env"], name: keyof typeof ANSI, text: string): string {
  if (stream.isTTY !== true || (env.NO_COLOR ?? "") !== "") return text;
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
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
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
