import type { CommandIo } from "@leveret/command";
import { main } from "../src/index.ts";

/** What a command has said, and how it ended. */
interface Outcome {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command in this process. */
export async function leveretHv(...argv: string[]): Promise<Outcome> {
  let out = "";
  let err = "";
  const io: CommandIo = {
    stdout: { write: (text: string) => (out += text) },
    stderr: { write: (text: string) => (err += text) },
    env: process.env,
    cwd: process.cwd(),
    signal: new AbortController().signal,
  };
  const exitCode = await main(argv, io);
  return { exitCode, out, err };
}
