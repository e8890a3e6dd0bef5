import type { CommandIo } from "../src/index.ts";

interface CaptureOptions {
  /** makes both streams a terminal */
  readonly terminal?: { readonly columns: number | undefined };
  readonly env?: CommandIo["env"];
  readonly signal?: AbortSignal;
}

/** Streams that remember what was written. */
export function capture(options: CaptureOptions = {}): { io: CommandIo; out: () => string; err: () => string } {
  const { terminal, env = {}, signal = new AbortController().signal } = options;
  let out = "";
  let err = "";
  const shape = terminal === undefined ? {} : { isTTY: true, columns: terminal.columns };
  const io = {
    stdout: { write: (text: string) => (out += text), ...shape },
    stderr: { write: (text: string) => (err += text), ...shape },
    env,
    cwd: "/",
    signal,
  };
  return { io, out: () => out, err: () => err };
}
