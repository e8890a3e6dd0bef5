import { type CommandIo, startProgress } from "@leveret/command";
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
