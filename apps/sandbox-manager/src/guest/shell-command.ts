import type { SandboxProcess } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";
import { DEFAULT_MAX_OUTPUT_BYTES, type Ran, runProgram } from "./run-program.ts";

/** What can stand in a command of {@link Sandbox.$}: words, each of which the shell takes as it is. */
export type ShellWord = string | number | readonly (string | number)[];

/** What a command has said, when it has ended well. */
export interface ShellResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** Most of what a command has said on standard error that stands in an error's message, in characters. */
const MAX_SAID = 2000;

/**
 * A line for `/bin/sh`, with words quoted.
 *
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` for a word that no shell can have.
 */
export function shellLine(pieces: readonly string[], words: readonly ShellWord[]): string {
  return pieces.map((piece, index) => (index === 0 ? "" : quoted(words[index - 1])) + piece).join("");
}

function quoted(word: ShellWord | undefined): string {
  if (Array.isArray(word)) return word.map((each) => quoted(each)).join(" ");
  const isWord = typeof word === "number" || (typeof word === "string" && !word.includes("\0"));
  if (isWord) return `'${`${word}`.replaceAll("'", "'\\''")}'`;
  throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected words for a shell, got ${JSON.stringify(word)}`);
}

/**
 * A command that runs in a sandbox. Awaited, it is what it has said, all of it; iterated, the lines of its standard output,
 * which it writes no faster than they are taken. Either of them, not both.
 */
export class ShellCommand implements PromiseLike<ShellResult>, AsyncIterable<string> {
  readonly #line: string;
  readonly #program: Promise<SandboxProcess>;
  readonly #signal: AbortSignal | undefined;
  #result: Promise<ShellResult> | undefined;

  /** Use {@link Sandbox.$}. */
  constructor(line: string, program: Promise<SandboxProcess>, signal: AbortSignal | undefined) {
    this.#line = line;
    this.#program = program;
    this.#signal = signal;
    // Who only looks at it later is told then.
    program.catch(() => {});
  }

  // biome-ignore lint/suspicious/noThenProperty: this is what a promise is
  then<Value = ShellResult, Failure = never>(
    onFulfilled?: ((result: ShellResult) => Value | PromiseLike<Value>) | null,
    onRejected?: ((reason: unknown) => Failure | PromiseLike<Failure>) | null,
  ): Promise<Value | Failure> {
    this.#result ??= this.#finish();
    return this.#result.then(onFulfilled, onRejected);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    const program = await this.#program;
    const signal = this.#signal;
    signal?.addEventListener("abort", program.close, { once: true });
    try {
      signal?.throwIfAborted();
      program.stdin.end();
      const said = lastOf(program.stderr);
      // Of no interest when nobody takes the lines any more.
      said.catch(() => {});
      yield* linesOf(program.stdout);
      this.#expectSuccess(await program.exit, await said);
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", program.close);
      program.close();
    }
  }

  async #finish(): Promise<ShellResult> {
    const ran = await runProgram(await this.#program, { signal: this.#signal });
    const result = { stdout: ran.stdout.toString(), stderr: ran.stderr.toString() };
    this.#expectSuccess(ran, result.stderr);
    return result;
  }

  #expectSuccess({ exitCode, signal }: Pick<Ran, "exitCode" | "signal">, stderr: string): void {
    if (exitCode === 0) return;
    const how = exitCode === undefined ? `signal ${signal}` : `exit code ${exitCode}`;
    const said = stderr.trim().slice(-MAX_SAID);
    const message = `expected "${this.#line}" to end well, got ${how}${said === "" ? "" : `: ${said}`}`;
    throw new SandboxError("SANDBOX_COMMAND_FAILED", message);
  }
}

/** The lines of an output, without what ends them. */
async function* linesOf(output: AsyncIterable<Uint8Array>): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let pieces: string[] = [];
  let length = 0;
  for await (const chunk of output) {
    const [first = "", ...more] = decoder.decode(chunk, { stream: true }).split("\n");
    pieces.push(first);
    length += first.length;
    for (const line of more) {
      yield pieces.join("");
      pieces = [line];
      length = line.length;
    }
    if (length > DEFAULT_MAX_OUTPUT_BYTES) {
      const message = `expected lines of at most ${DEFAULT_MAX_OUTPUT_BYTES} bytes, got a longer one`;
      throw new SandboxError("SANDBOX_OUTPUT_LIMIT", message);
    }
  }
  const last = pieces.join("") + decoder.decode();
  if (last !== "") yield last;
}

/** The end of an output, as much as stands in an error. */
async function lastOf(output: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let last = "";
  for await (const chunk of output) last = (last + decoder.decode(chunk, { stream: true })).slice(-MAX_SAID);
  return last;
}
