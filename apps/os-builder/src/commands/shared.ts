import { type CommandIo, style, table } from "@leveret/command";

/** Lines of a table whose first column is a mark, which is coloured: ✓ is good, everything else is not. */
export function markedLines(rows: readonly (readonly string[])[], io: CommandIo): string[] {
  return table(rows)
    .split("\n")
    .map((line) => {
      const mark = line.slice(0, 1);
      return style(io.stdout, io.env, mark === "✓" ? "green" : "red", mark) + line.slice(1);
    });
}
