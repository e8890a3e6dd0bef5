import type { Duplex } from "node:stream";
import { QemuError } from "./errors.ts";
import { LineReader } from "./internal/line-reader.ts";
import { startWait, type Wait, type WaitOptions } from "./internal/wait.ts";

/** Longest line accepted from QEMU, in `bytes`; `query-qmp-schema`, the longest reply by far, takes 0.2 MiB. */
export const DEFAULT_MAX_QMP_LINE_BYTES = 16 * 1024 * 1024;
/** How long a command may take, in `milliseconds`. */
export const DEFAULT_QMP_TIMEOUT_MS = 30_000;
/** Most events an iterator holds for a consumer that does not keep up. */
export const DEFAULT_MAX_QUEUED_EVENTS = 4096;

/** What QEMU says about itself when the connection opens. */
export interface QmpGreeting {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number };
  /** distributor's version, often empty */
  readonly package: string;
}

/** Something that happened in QEMU. */
export interface QmpEvent {
  /** name, such as `SHUTDOWN` */
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** host time in `microseconds` since 1970, undefined when QEMU's clock failed */
  readonly timestampUs: number | undefined;
}

/** Limits of a {@link QmpClient}. */
export interface QmpOptions extends WaitOptions {
  /** longest accepted line in `bytes`, default {@link DEFAULT_MAX_QMP_LINE_BYTES} */
  readonly maxLineBytes?: number | undefined;
  /** copy-pasteable command line of the process at the other end, for errors */
  readonly commandLine?: string | undefined;
}

/**
 * Client of the QEMU Machine Protocol on any byte stream.
 *
 * Events may come at any time, also before the greeting and between a command and its reply. Numbers beyond 2^53 lose
 * precision, as everywhere in JavaScript's JSON.
 *
 * @see QEMU 7.2, docs/interop/qmp-spec.txt, "QEMU Machine Protocol Specification"
 */
export class QmpClient {
  readonly #stream: Duplex;
  readonly #commandLine: string | undefined;
  readonly #pending = new Map<number, { readonly command: string; readonly wait: Wait<unknown> }>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #endListeners = new Set<(error: QemuError) => void>();
  #nextId = 1;
  #greeting: QmpGreeting | undefined;
  #greetingWait: Wait<QmpGreeting> | undefined;
  #end: QemuError | undefined;

  private constructor(stream: Duplex, options: QmpOptions) {
    this.#stream = stream;
    this.#commandLine = options.commandLine;
    const lines = new LineReader(options.maxLineBytes ?? DEFAULT_MAX_QMP_LINE_BYTES);
    stream.on("data", (chunk: Uint8Array) => {
      if (this.#end !== undefined) return;
      try {
        for (const line of lines.push(chunk)) this.#receive(line);
      } catch (error) {
        this.#fail(error instanceof QemuError ? error : this.#protocolError(String(error), error));
      }
    });
    stream.once("close", () => this.#fail(this.#closedError()));
    stream.once("end", () => this.#fail(this.#closedError()));
    stream.on("error", (cause) => this.#fail(this.#closedError(cause)));
  }

  /**
   * Waits for QEMU's greeting and leaves its negotiation mode.
   *
   * @param stream - Connection to QEMU; this client is then its only reader and writer.
   * @param options - Limits; `timeoutMs` bounds the whole handshake, default {@link DEFAULT_QMP_TIMEOUT_MS}.
   * @returns A client ready for commands.
   * @throws {QemuError} `QEMU_QMP_TIMEOUT` without a greeting in time, `QEMU_QMP_CLOSED` when the stream ends,
   *   `QEMU_QMP_PROTOCOL` for anything that is not QMP, `QEMU_ABORTED` by the signal.
   */
  static async connect(stream: Duplex, options: QmpOptions = {}): Promise<QmpClient> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_QMP_TIMEOUT_MS;
    const client = new QmpClient(stream, options);
    const startedAt = performance.now();
    if (client.#end !== undefined) throw client.#end;
    const wait = startWait<QmpGreeting>({ timeoutMs, signal: options.signal }, () =>
      client.#timeoutError("the greeting", timeoutMs),
    );
    client.#greetingWait = wait;
    await wait.promise;
    const left = Math.max(1, timeoutMs - (performance.now() - startedAt));
    await client.execute("qmp_capabilities", {}, { timeoutMs: left, signal: options.signal });
    return client;
  }

  /** What QEMU said about itself. */
  get greeting(): QmpGreeting {
    if (this.#greeting === undefined) throw new Error("bug: no client exists before its greeting");
    return this.#greeting;
  }

  /**
   * Runs one command. A command that timed out or was called off may still take effect.
   *
   * @param command - Name, such as `query-status`.
   * @param args - Its arguments.
   * @param options - Limit, default {@link DEFAULT_QMP_TIMEOUT_MS}, and signal.
   * @returns What the command returned.
   * @throws {QemuError} `QEMU_QMP_COMMAND_FAILED` when QEMU refuses, `QEMU_QMP_TIMEOUT`, `QEMU_QMP_CLOSED`, `QEMU_ABORTED`.
   * @example
   * const { status } = (await qmp.execute("query-status")) as { status: string };
   */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}, options: WaitOptions = {}): Promise<unknown> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const timeoutMs = options.timeoutMs ?? DEFAULT_QMP_TIMEOUT_MS;
    const id = this.#nextId++;
    const wait = startWait<unknown>(
      { timeoutMs, signal: options.signal },
      () => this.#timeoutError(`the reply to ${command}`, timeoutMs),
      () => this.#pending.delete(id),
    );
    if (options.signal?.aborted !== true) {
      this.#pending.set(id, { command, wait });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    }
    return wait.promise;
  }

  /**
   * Waits for the next event of a name. Call it before the command that causes the event.
   *
   * @param name - Event name, such as `SHUTDOWN`.
   * @param options - Limit, default none, and signal; `where` narrows the events down.
   * @returns The event.
   * @throws {QemuError} `QEMU_QMP_TIMEOUT`, `QEMU_QMP_CLOSED`, `QEMU_ABORTED`.
   * @example
   * const stopped = qmp.once("STOP", { timeoutMs: 5000 });
   * await qmp.execute("stop");
   * await stopped;
   */
  once(name: string, options: WaitOptions & { readonly where?: (event: QmpEvent) => boolean } = {}): Promise<QmpEvent> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const listen = (event: QmpEvent): void => {
      try {
        if (event.event === name && options.where?.(event) !== false) wait.resolve(event);
      } catch (error) {
        wait.reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const fail = (error: QemuError): void => wait.reject(error);
    const wait = startWait<QmpEvent>(
      options,
      () => this.#timeoutError(`the event ${name}`, options.timeoutMs ?? 0),
      () => {
        this.#listeners.delete(listen);
        this.#endListeners.delete(fail);
      },
    );
    if (options.signal?.aborted !== true) {
      this.#listeners.add(listen);
      this.#endListeners.add(fail);
    }
    return wait.promise;
  }

  /**
   * All events from now on; the iteration ends with the connection.
   *
   * @param options - Signal that ends the iteration, and how many events may wait for a slow consumer.
   * @throws {QemuError} `QEMU_QMP_OVERFLOW` while iterating, when the consumer fell too far behind.
   */
  events(
    options: { readonly signal?: AbortSignal; readonly maxQueued?: number } = {},
  ): AsyncIterableIterator<QmpEvent> {
    const maxQueued = options.maxQueued ?? DEFAULT_MAX_QUEUED_EVENTS;
    const queue: QmpEvent[] = [];
    let overflow: QemuError | undefined;
    let ended = this.#end !== undefined || options.signal?.aborted === true;
    let wake: () => void = () => {};
    const listen = (event: QmpEvent): void => {
      if (queue.length < maxQueued) {
        queue.push(event);
      } else {
        overflow = new QemuError(
          "QEMU_QMP_OVERFLOW",
          `expected a consumer that keeps up, got ${maxQueued} events waiting`,
        );
        finish();
      }
      wake();
    };
    const finish = (): void => {
      ended = true;
      this.#listeners.delete(listen);
      this.#endListeners.delete(finish);
      options.signal?.removeEventListener("abort", finish);
      wake();
    };
    if (!ended) {
      this.#listeners.add(listen);
      this.#endListeners.add(finish);
      options.signal?.addEventListener("abort", finish, { once: true });
    }
    const iterator: AsyncIterableIterator<QmpEvent> = {
      async next() {
        for (;;) {
          const value = queue.shift();
          if (value !== undefined) return { done: false, value };
          if (overflow !== undefined) throw overflow;
          if (ended) return { done: true, value: undefined };
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      },
      async return() {
        queue.length = 0;
        finish();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** Closes the connection; whatever still waits fails with `QEMU_QMP_CLOSED`. Idempotent. */
  close(): void {
    this.#fail(this.#closedError());
    this.#stream.destroy();
  }

  #receive(line: string): void {
    const message = parseObject(line);
    if (message === undefined)
      throw this.#protocolError(`expected a JSON object per line, got ${JSON.stringify(line.slice(0, 200))}`);
    if (typeof message.event === "string") this.#deliver(message.event, message);
    else if (isObject(message.QMP)) this.#greet(message.QMP);
    else this.#answer(message);
  }

  #answer(message: Record<string, unknown>): void {
    const pending = typeof message.id === "number" ? this.#pending.get(message.id) : undefined;
    // Without an id: QEMU could not even parse the command, which this client never causes.
    // An unknown id: the reply to a command that timed out or was called off.
    if (pending === undefined) return;
    if (isObject(message.error)) {
      const { class: qmpClass, desc } = message.error;
      const text = `expected QEMU to accept ${pending.command}, got: ${String(desc)}`;
      pending.wait.reject(new QemuError("QEMU_QMP_COMMAND_FAILED", text, { qmpClass: String(qmpClass) }));
    } else {
      pending.wait.resolve(message.return);
    }
  }

  #deliver(name: string, message: Record<string, unknown>): void {
    const { timestamp } = message;
    const known =
      isObject(timestamp) && typeof timestamp.seconds === "number" && typeof timestamp.microseconds === "number";
    const event: QmpEvent = {
      event: name,
      data: isObject(message.data) ? message.data : {},
      timestampUs:
        known && Number(timestamp.seconds) >= 0
          ? Number(timestamp.seconds) * 1e6 + Number(timestamp.microseconds)
          : undefined,
    };
    for (const listener of [...this.#listeners]) listener(event);
  }

  #greet(greeting: Record<string, unknown>): void {
    const version = isObject(greeting.version) ? greeting.version : {};
    const qemu = isObject(version.qemu) ? version.qemu : {};
    this.#greeting = {
      version: { major: Number(qemu.major ?? 0), minor: Number(qemu.minor ?? 0), micro: Number(qemu.micro ?? 0) },
      package: typeof version.package === "string" ? version.package : "",
    };
    this.#greetingWait?.resolve(this.#greeting);
  }

  #fail(error: QemuError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#greetingWait?.reject(error);
    for (const { wait } of [...this.#pending.values()]) wait.reject(error);
    for (const listener of [...this.#endListeners]) listener(error);
    if (error.code === "QEMU_QMP_PROTOCOL") this.#stream.destroy();
  }

  #timeoutError(what: string, timeoutMs: number): QemuError {
    return new QemuError("QEMU_QMP_TIMEOUT", `expected ${what} within ${Math.round(timeoutMs)} ms, got none`, {
      timeoutMs,
      waitedFor: what,
      commandLine: this.#commandLine,
    });
  }

  #closedError(cause?: unknown): QemuError {
    return new QemuError("QEMU_QMP_CLOSED", "expected an open QMP connection, got its end", {
      commandLine: this.#commandLine,
      cause,
    });
  }

  #protocolError(message: string, cause?: unknown): QemuError {
    return new QemuError("QEMU_QMP_PROTOCOL", message, { commandLine: this.#commandLine, cause });
  }
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    // Not JSON, or nested deeper than the parser's stack.
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
