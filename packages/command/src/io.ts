/** The part of a writable stream that a command line uses. */
export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Everything a command line takes from its process; `main` functions touch nothing else of it. */
export interface CommandIo {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** working directory, absolute */
  readonly cwd: string;
  /** aborts when the person presses Ctrl-C or the process is asked to end */
  readonly signal: AbortSignal;
}

/**
 * The real process as a {@link CommandIo}. SIGINT, SIGTERM and SIGHUP abort its signal once; a second SIGINT ends the
 * process at once, for when cleaning up hangs.
 */
export function processIo(): CommandIo {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(name, () => controller.abort(new Error(`interrupted by ${name}`)));
  }
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    signal: controller.signal,
  };
}
