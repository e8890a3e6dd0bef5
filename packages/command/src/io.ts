import { openSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { ReadStream } from "node:tty";

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
  /**
   * aborts with an {@link Interruption} when the person presses Ctrl-C, the process is asked to end, or standard output
   * cannot be written
   */
  readonly signal: AbortSignal;
  /**
   * Asks the person at the terminal for something that is not shown while it is typed; undefined when there is no terminal,
   * or when they end the input (Ctrl-D). Rejects when they press Ctrl-C.
   */
  readonly askSecret?: ((question: string) => Promise<string | undefined>) | undefined;
}

/** Why a command ends before it is done: the reason with which {@link CommandIo.signal} aborts. */
export class Interruption extends Error {
  /** what ends it: a signal, standard output that cannot be written, or that nobody reads it any more */
  readonly origin: "signal" | "output" | "reader";
  /** what a shell says of a program that a signal ended, 128 and the signal's number; 1 when output was lost */
  readonly exitCode: number;
  static {
    this.prototype.name = "Interruption";
  }

  private constructor(message: string, origin: Interruption["origin"], exitCode: number) {
    super(message);
    this.origin = origin;
    this.exitCode = exitCode;
  }

  static bySignal(name: NodeJS.Signals): Interruption {
    return new Interruption(`interrupted by ${name}`, "signal", 128 + constants.signals[name]);
  }

  /** Standard output failed. */
  static byOutput({ code, message }: NodeJS.ErrnoException): Interruption {
    if (code === "EPIPE") return new Interruption("nobody reads the output", "reader", 128 + constants.signals.SIGPIPE);
    return new Interruption(`cannot write to standard output: ${message}`, "output", 1);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** How long after the first signal another one still counts as the same, in `milliseconds`. */
const SAME_PRESS_MS = 1000;

/**
 * The real process as a {@link CommandIo}. The first SIGINT, SIGTERM or SIGHUP aborts its signal; one that comes a second
 * or more later ends the process at once, for when cleaning up hangs. A reader that goes away early (`| head`) ends the
 * work too, without a word.
 */
export function processIo(): CommandIo {
  const controller = new AbortController();
  let abortedAt = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    if (!controller.signal.aborted) {
      abortedAt = Date.now();
      controller.abort(Interruption.bySignal(name));
      return;
    }
    // One Ctrl-C comes twice below npm and npx: from the terminal, and passed on by them.
    if (Date.now() - abortedAt < SAME_PRESS_MS) return;
    for (const each of SIGNALS) process.removeListener(each, onSignal);
    process.kill(process.pid, name);
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  process.stdout.on("error", (error) => controller.abort(Interruption.byOutput(error)));
  // There is no place left to say that this one fails.
  process.stderr.on("error", () => {});
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    signal: controller.signal,
    askSecret: (question) => askOnTerminal(question, controller.signal, () => onSignal("SIGINT")),
  };
}

/** What keys send when the terminal does not handle them. */
const KEY = { interrupt: "\u0003", end: "\u0004", backspace: "\b", killLine: "\u0015", delete: "\u007f" } as const;

/** Asks on the controlling terminal, wherever standard input and output go, and leaves it as it was. */
async function askOnTerminal(
  question: string,
  signal: AbortSignal,
  interrupt: () => void,
): Promise<string | undefined> {
  signal.throwIfAborted();
  const fd = openTerminal();
  if (fd === undefined) return undefined;
  const terminal = new ReadStream(fd);
  let abort = (): void => {};
  try {
    // What is typed from here on is neither shown nor turned into signals.
    terminal.setRawMode(true);
    writeSync(fd, question);
    return await new Promise<string | undefined>((resolve, reject) => {
      abort = () => reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      const typed: string[] = [];
      terminal.setEncoding("utf8");
      terminal.on("error", reject);
      terminal.on("end", () => resolve(undefined));
      terminal.on("data", (chunk: string) => {
        for (const character of chunk) {
          if (character === "\r" || character === "\n") return resolve(typed.join(""));
          if (character === KEY.interrupt) return interrupt();
          if (character === KEY.end && typed.length === 0) return resolve(undefined);
          if (character === KEY.backspace || character === KEY.delete) typed.pop();
          else if (character === KEY.killLine) typed.length = 0;
          else if (character >= " ") typed.push(character);
        }
      });
    });
  } finally {
    signal.removeEventListener("abort", abort);
    terminal.setRawMode(false);
    writeSync(fd, "\n");
    terminal.destroy();
  }
}

function openTerminal(): number | undefined {
  try {
    return openSync("/dev/tty", "r+");
  } catch {
    return undefined;
  }
}
