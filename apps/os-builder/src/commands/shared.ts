import { type CommandIo, startProgress, style, table } from "@leveret/command";
import type { Progress } from "@leveret/nix-gen";

/** Runs something long while its progress is drawn, and ends the drawing whatever happens. */
export async function withProgress<T>(io: CommandIo, run: (onProgress: Progress) => Promise<T>): Promise<T> {
  const progress = startProgress(io);
  try {
    return await run(progress.update);
  } finally {
    progress.finish();
  }
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
