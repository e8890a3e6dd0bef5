import type { Readable, Writable } from "node:stream";
import { QemuError, type QemuErrorDetails } from "./errors.ts";
import { TerminalText } from "./internal/terminal-text.ts";
import { startWait, type Wait, type WaitOptions } from "./internal/wait.ts";

/** Most characters of normalised text a console remembers; the oldest go first. */
export const DEFAULT_MAX_TRANSCRIPT_CHARS = 8 * 1024 * 1024;
/** Longest text, in characters, that a match of a regular expression may span when it arrives in pieces. */
export const MAX_MATCH_CHARS = 16 * 1024;
/** How long, in `milliseconds`, a match that could still grow is left to grow. */
export const SETTLE_MS = 50;
/** How long a wait lasts unless told otherwise, in `milliseconds`. */
export const DEFAULT_WAIT_TIMEOUT_MS = 120_000;

const TAIL_CHARS = 4096;
const DEFAULT_WRITE_TIMEOUT_MS = 30_000;
/** Characters that arrive one by one are looked at together, at most this often in `milliseconds`. */
const SCAN_INTERVAL_MS = 4;

/** What to look for: text, found anywhere, or a regular expression, to which the flags `g` and `m` are added. */
export type ConsolePattern = string | RegExp;

/** Text that was waited for. */
export interface ConsoleMatch {
  /** matched text */
  readonly text: string;
  /** capture groups of the pattern, in order */
  readonly groups: readonly (string | undefined)[];
  /** named capture groups of the pattern */
  readonly named: Readonly<Record<string, string | undefined>>;
  /** position of the match in the console's text since its start, in characters */
  readonly index: number;
}

/** How {@link SerialConsole.waitFor} looks. */
export interface ConsoleWaitOptions extends WaitOptions {
  /**
   * Where to begin: `cursor` (default) is the end of what the last finished wait found, `start` is everything
   * remembered, `now` is what arrives from now on
   */
  readonly from?: "cursor" | "start" | "now" | undefined;
}

/** Connection to a guest's console; both may be one duplex stream. */
export interface ConsoleStream {
  /** what the guest writes */
  readonly output: Readable;
  /** what the guest reads */
  readonly input: Writable;
}

/** Facts the console adds to its errors. */
export interface ConsoleContext {
  /** console's name */
  readonly name: string;
  /** copy-pasteable command line of the process that writes to it */
  readonly commandLine?: string | undefined;
  /** called with what arrives, as normalised text */
  readonly onText?: ((text: string) => void) | undefined;
  /** most characters to remember, default {@link DEFAULT_MAX_TRANSCRIPT_CHARS} */
  readonly maxTranscriptChars?: number | undefined;
}

/** Makes the error of a wait that cannot succeed any more. */
export type ConsoleEnd = (details: QemuErrorDetails) => QemuError;

interface Candidate {
  readonly key: string;
  readonly match: ConsoleMatch;
  /** whether more text could make the match longer */
  readonly growing: boolean;
}

interface Search {
  readonly key: string;
  readonly pattern: string | RegExp;
}

interface PendingWait {
  readonly searches: readonly Search[];
  /** position before which no match may begin */
  readonly from: number;
  /** position up to which everything was looked at */
  searchedTo: number;
  settling: NodeJS.Timeout | undefined;
  readonly wait: Wait<Candidate>;
}

/**
 * One console of a machine: everything the guest wrote, patterns to wait for, and a way to type.
 *
 * Patterns see normalised text: no escape sequences, line ends as `\n`. Each wait begins where the last one that
 * succeeded ended, so nothing is missed between two waits, whenever the text arrived. A regular expression that matches
 * up to the last character received is given {@link SETTLE_MS} to grow.
 */
export class SerialConsole {
  readonly #stream: ConsoleStream;
  readonly #context: ConsoleContext;
  readonly #maxChars: number;
  readonly #normaliser = new TerminalText();
  readonly #waits = new Set<PendingWait>();
  readonly #listeners = new Set<(chunk: Uint8Array) => void>();
  /** older text in pieces: joining everything for every few bytes would be quadratic */
  readonly #older: string[] = [];
  /** newest text, at least {@link MAX_MATCH_CHARS} when there is that much */
  #recent = "";
  /** position of the first remembered character; positions count from the console's start */
  #start = 0;
  /** position of the first character of `#recent` */
  #recentStart = 0;
  #cursor = 0;
  #scanTimer: NodeJS.Timeout | undefined;
  #end: ConsoleEnd | undefined;

  /**
   * @param stream - Connection to the guest's console; this object is then its only reader and writer.
   * @param context - Facts for errors.
   */
  constructor(stream: ConsoleStream, context: ConsoleContext) {
    this.#stream = stream;
    this.#context = context;
    this.#maxChars = context.maxTranscriptChars ?? DEFAULT_MAX_TRANSCRIPT_CHARS;
    stream.output.on("data", this.#onData).on("error", () => {});
    stream.input.on("error", () => {});
  }

  /** Name of the console in the machine's description. */
  get name(): string {
    return this.#context.name;
  }

  /** Normalised text that is still remembered. */
  get text(): string {
    return this.#older.join("") + this.#recent;
  }

  /**
   * Last part of the normalised text.
   *
   * @param chars - How many characters at most, default 4096.
   */
  tail(chars: number = TAIL_CHARS): string {
    const source = chars <= this.#recent.length ? this.#recent : this.text;
    return source.slice(Math.max(0, source.length - chars));
  }

  /**
   * Calls `listener` with every chunk of raw bytes from now on.
   *
   * @param listener - Must not keep or change the bytes.
   * @returns A function that ends the calls.
   */
  onOutput(listener: (chunk: Uint8Array) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Waits for the guest to write something that matches.
   *
   * @param pattern - What to look for.
   * @param options - Limit, default {@link DEFAULT_WAIT_TIMEOUT_MS}, signal, and where to begin.
   * @returns The match; the next wait begins behind it.
   * @throws {QemuError} `QEMU_CONSOLE_TIMEOUT` with the last 4 KiB of the console, `QEMU_EXITED` when the machine ends
   *   first, `QEMU_CLOSED` when it was closed, `QEMU_ABORTED` by the signal.
   * @example
   * await machine.serial.waitFor("login:", { timeoutMs: 60_000 });
   */
  async waitFor(pattern: ConsolePattern, options: ConsoleWaitOptions = {}): Promise<ConsoleMatch> {
    return (await this.waitForAny({ pattern }, options)).match;
  }

  /**
   * Waits for the first of several patterns, for example success and the known ways to fail.
   *
   * @param patterns - What to look for, by name; the match that begins first wins.
   * @param options - As for {@link SerialConsole.waitFor}.
   * @returns Name of the pattern and its match.
   * @throws {QemuError} As {@link SerialConsole.waitFor}.
   * @example
   * const { which } = await serial.waitForAny({ ok: "login:", refused: "Security Violation" });
   */
  async waitForAny<K extends string>(
    patterns: Readonly<Record<K, ConsolePattern>>,
    options: ConsoleWaitOptions = {},
  ): Promise<{ readonly which: K; readonly match: ConsoleMatch }> {
    const entries = Object.entries<ConsolePattern>(patterns);
    const waitedFor = entries.map(([, pattern]) => describe(pattern)).join(" or ");
    const timeoutMs = options.timeoutMs ?? DEFAULT_WAIT_TIMEOUT_MS;
    const from = { cursor: Math.max(this.#cursor, this.#start), start: this.#start, now: this.#position }[
      options.from ?? "cursor"
    ];
    const wait = startWait<Candidate>(
      { timeoutMs, signal: options.signal },
      () => this.#timeoutError(waitedFor, timeoutMs),
      () => {
        clearTimeout(pending.settling);
        this.#waits.delete(pending);
      },
    );
    const pending: PendingWait = {
      searches: entries.map(([key, pattern]) => ({ key, pattern: prepare(pattern) })),
      from,
      searchedTo: from,
      settling: undefined,
      wait,
    };
    if (options.signal?.aborted !== true) {
      this.#waits.add(pending);
      this.#look(pending, this.#end !== undefined);
      if (this.#end !== undefined) wait.reject(this.#end(this.#details(waitedFor)));
    }
    const { key, match } = await wait.promise;
    return { which: key as K, match };
  }

  /**
   * Types into the console.
   *
   * @param data - Text, sent as UTF-8, or bytes.
   * @param options - Limit, default 30 s, and signal.
   * @returns When QEMU has taken it; the guest may read it later.
   * @throws {QemuError} `QEMU_CONSOLE_TIMEOUT` when the guest does not read, `QEMU_EXITED`, `QEMU_CLOSED`, `QEMU_ABORTED`.
   */
  async write(data: string | Uint8Array, options: WaitOptions = {}): Promise<void> {
    const waitedFor = `${this.name} to take input`;
    if (this.#end !== undefined) throw this.#end(this.#details(waitedFor));
    const timeoutMs = options.timeoutMs ?? DEFAULT_WRITE_TIMEOUT_MS;
    const wait = startWait<void>({ timeoutMs, signal: options.signal }, () => this.#timeoutError(waitedFor, timeoutMs));
    if (options.signal?.aborted !== true) {
      this.#stream.input.write(data, (error) => {
        if (error === undefined || error === null) wait.resolve();
        else
          wait.reject(
            this.#end?.(this.#details(waitedFor)) ?? new QemuError("QEMU_EXITED", error.message, { cause: error }),
          );
      });
    }
    await wait.promise;
  }

  /**
   * Types a line and presses Enter.
   *
   * @param text - Line without its end.
   * @param options - As for {@link SerialConsole.write}.
   * @throws {QemuError} As {@link SerialConsole.write}.
   */
  sendLine(text: string, options: WaitOptions = {}): Promise<void> {
    // The Enter key of a terminal sends a carriage return; firmware accepts nothing else.
    return this.write(`${text}\r`, options);
  }

  /**
   * Tells the console that no more text will come: waits that the text so far satisfies succeed, all others fail at once.
   *
   * @param end - Makes their errors.
   */
  end(end: ConsoleEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    clearTimeout(this.#scanTimer);
    for (const pending of [...this.#waits]) {
      this.#look(pending, true);
      pending.wait.reject(end(this.#details(pending.searches.map(({ pattern }) => describe(pattern)).join(" or "))));
    }
  }

  /** Leaves the connection to somebody else, for whom it keeps what comes: this object sees nothing more of it. */
  release(): void {
    this.#stream.output.off("data", this.#onData).pause();
  }

  readonly #onData = (chunk: Uint8Array): void => this.#receive(chunk);

  get #position(): number {
    return this.#recentStart + this.#recent.length;
  }

  #receive(chunk: Uint8Array): void {
    for (const listener of [...this.#listeners]) listener(chunk);
    const text = this.#normaliser.push(chunk);
    this.#context.onText?.(text);
    this.#recent += text;
    if (this.#recent.length > 2 * MAX_MATCH_CHARS) {
      const cut = this.#recent.length - MAX_MATCH_CHARS;
      this.#older.push(this.#recent.slice(0, cut));
      this.#recent = this.#recent.slice(cut);
      this.#recentStart += cut;
    }
    while (this.#position - this.#start > this.#maxChars) {
      const oldest = this.#older.shift();
      if (oldest === undefined) break;
      this.#start += oldest.length;
    }
    if (this.#waits.size > 0 && this.#scanTimer === undefined) {
      this.#lookAll();
      this.#scanTimer = setTimeout(() => {
        this.#scanTimer = undefined;
        this.#lookAll();
      }, SCAN_INTERVAL_MS);
    }
  }

  #lookAll(): void {
    for (const pending of [...this.#waits]) {
      if (pending.searchedTo < this.#position) this.#look(pending, false);
    }
  }

  /** Looks at what `pending` has not seen; `final` when the text will not grow. */
  #look(pending: PendingWait, final: boolean): void {
    clearTimeout(pending.settling);
    let best: Candidate | undefined;
    for (const search of pending.searches) {
      const candidate = this.#find(search, pending);
      if (candidate !== undefined && (best === undefined || candidate.match.index < best.match.index)) best = candidate;
    }
    if (best === undefined) {
      pending.searchedTo = this.#position;
    } else if (best.growing && !final) {
      // `searchedTo` stays: the match has to be found again, grown or not.
      pending.settling = setTimeout(() => this.#look(pending, true), SETTLE_MS);
    } else {
      this.#cursor = Math.max(this.#cursor, best.match.index + best.match.text.length);
      pending.wait.resolve(best);
    }
  }

  #find({ key, pattern }: Search, pending: PendingWait): Candidate | undefined {
    const overlap = typeof pattern === "string" ? Math.max(0, pattern.length - 1) : MAX_MATCH_CHARS;
    const begin = Math.max(pending.from, this.#start, pending.searchedTo - overlap);
    const [text, offset] = begin >= this.#recentStart ? [this.#recent, this.#recentStart] : [this.text, this.#start];
    if (typeof pattern === "string") {
      const at = text.indexOf(pattern, begin - offset);
      return at === -1
        ? undefined
        : { key, growing: false, match: { text: pattern, groups: [], named: {}, index: offset + at } };
    }
    pattern.lastIndex = begin - offset;
    const found = pattern.exec(text);
    if (found === null) return undefined;
    return {
      key,
      growing: found.index + found[0].length === text.length,
      match: { text: found[0], groups: found.slice(1), named: { ...found.groups }, index: offset + found.index },
    };
  }

  #details(waitedFor: string): QemuErrorDetails {
    return { waitedFor, consoleTail: this.tail(), commandLine: this.#context.commandLine };
  }

  #timeoutError(waitedFor: string, timeoutMs: number): QemuError {
    const tail = this.tail();
    const shown = tail === "" ? "the console is empty" : `the console ends with:\n${tail}`;
    return new QemuError(
      "QEMU_CONSOLE_TIMEOUT",
      `expected ${waitedFor} on ${this.name} within ${timeoutMs} ms; ${shown}`,
      {
        ...this.#details(waitedFor),
        timeoutMs,
      },
    );
  }
}

function prepare(pattern: ConsolePattern): string | RegExp {
  if (typeof pattern === "string") return pattern;
  return new RegExp(pattern.source, [...new Set(`${pattern.flags.replace("y", "")}gm`)].join(""));
}

function describe(pattern: ConsolePattern): string {
  return typeof pattern === "string" ? JSON.stringify(pattern) : `/${pattern.source}/`;
}
