/** The part of a writable stream that a command line uses. */
export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  /** width of the terminal in `characters` */
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

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** How long after the first signal another one still counts as the same, in `milliseconds`. */
const SAME_PRESS_MS = 1000;

/**
 * The real process as a {@link CommandIo}. The first SIGINT, SIGTERM or SIGHUP aborts its signal; one that comes a second
 * or more later ends the process at once, for when cleaning up hangs. A reader that goes away early (`| head`) is no
 * mistake.
 */
export function processIo(): CommandIo {
  const controller = new AbortController();
  let abortedAt = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    if (!controller.signal.aborted) {
      abortedAt = Date.now();
      controller.abort(new Error(`interrupted by ${name}`));
      return;
    }
    // One Ctrl-C comes twice below npm and npx: from the terminal, and passed on by them.
    if (Date.now() - abortedAt < SAME_PRESS_MS) return;
    for (const each of SIGNALS) process.removeListener(each, onSignal);
    process.kill(process.pid, name);
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    signal: controller.signal,
  };
}
