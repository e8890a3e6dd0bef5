import type { Duplex } from "node:stream";
import { QemuError, type QemuErrorDetails } from "./errors.ts";
import { LineReader } from "./internal/line-reader.ts";
import { startWait, type Wait, type WaitOptions } from "./internal/wait.ts";
import type { QmpChecker } from "./qmp/checker.ts";
import { iterateEvents } from "./qmp/event-queue.ts";
import { badArguments, parseQmpJson, type QmpIssue, renderArguments, renderIssues } from "./qmp/json.ts";
import type {
  OrOther,
  QmpCall,
  QmpCommandName,
  QmpEvent,
  QmpEventName,
  QmpEventsOptions,
  QmpExecuteOptions,
  QmpReturn,
} from "./qmp/types.ts";

/** Longest line accepted from QEMU, in `bytes`; `query-qmp-schema`, the longest reply by far, takes 0.2 MiB. */
export const DEFAULT_MAX_QMP_LINE_BYTES = 16 * 1024 * 1024;
/** How long a command may take, in `milliseconds`. */
export const DEFAULT_QMP_TIMEOUT_MS = 30_000;

/** What QEMU says about itself when the connection opens. */
export interface QmpGreeting {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number };
  /** distributor's version, often empty */
  readonly package: string;
  /** what it offers, such as `oob`, which this client accepts */
  readonly capabilities: readonly string[];
}

/** Limits of a {@link QmpClient}. */
export interface QmpOptions extends WaitOptions {
  /** longest accepted line in `bytes`, default {@link DEFAULT_MAX_QMP_LINE_BYTES} */
  readonly maxLineBytes?: number | undefined;
  /**
   * whether everything is checked against the schema of this very QEMU, which is asked for it first (a tenth of a
   * second): arguments before they are sent, what commands return, and the data of events; default false
   */
  readonly checked?: boolean | undefined;
  /** copy-pasteable command line of the process at the other end, for errors */
  readonly commandLine?: string | undefined;
}

interface PendingCommand {
  readonly command: string;
  readonly args: object;
  readonly wait: Wait<unknown>;
}

/**
 * Client of the QEMU Machine Protocol on any byte stream.
 *
 * Commands and events are typed as far as {@link QmpCommands} and {@link QmpEvents} know them; any other name is
 * untyped, not an error. QEMU checks arguments itself before it acts; what it refuses is then explained from the schema of
 * its version. Events may come at any time, also before the greeting and between a command and its reply. Integers are
 * exact, see {@link QmpInteger}.
 *
 * @see QEMU 7.2, docs/interop/qmp-spec.txt, "QEMU Machine Protocol Specification"
 */
export class QmpClient {
  readonly #stream: Duplex;
  readonly #commandLine: string | undefined;
  readonly #pending = new Map<number, PendingCommand>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #endListeners = new Set<(error: QemuError) => void>();
  #nextId = 1;
  #greeting: QmpGreeting | undefined;
  #greetingWait: Wait<QmpGreeting> | undefined;
  #end: QemuError | undefined;
  #checker: QmpChecker | undefined;

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
   * Waits for QEMU's greeting and leaves its negotiation mode, with out-of-band commands where QEMU offers them.
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
    const left = (): WaitOptions => {
      return { timeoutMs: Math.max(1, timeoutMs - (performance.now() - startedAt)), signal: options.signal };
    };
    const enable = client.#hasOutOfBand ? { enable: ["oob"] as const } : {};
    await client.execute("qmp_capabilities", enable, left());
    if (options.checked === true) {
      const entities = await client.execute("query-qmp-schema", {}, left());
      const { openChecker } = await import("./qmp/checker.ts");
      client.#checker = await openChecker(entities, client.#versionName);
    }
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
   * @param call - Its arguments, then limit (default {@link DEFAULT_QMP_TIMEOUT_MS}), signal, and whether it runs out of
   *   band. QEMU reads no further out-of-band command while more than seven others wait.
   * @returns What the command returned.
   * @throws {QemuError} `QEMU_QMP_COMMAND_FAILED` when QEMU refuses, with `issues` when its arguments are the reason;
   *   `QEMU_QMP_BAD_ARGUMENTS` for arguments that JSON cannot carry, `QEMU_QMP_NO_OUT_OF_BAND`, `QEMU_QMP_TIMEOUT`,
   *   `QEMU_QMP_CLOSED`, `QEMU_ABORTED`; with {@link QmpOptions.checked} `QEMU_QMP_BAD_ARGUMENTS` for whatever the
   *   schema does not allow, and `QEMU_QMP_PROTOCOL` for an answer it does not.
   * @example
   * const { status } = await qmp.execute("query-status");
   */
  execute<const Command extends OrOther<QmpCommandName>>(
    command: Command,
    ...call: QmpCall<Command>
  ): Promise<QmpReturn<Command>> {
    const [args = {}, options = {}] = call as [object?, QmpExecuteOptions?];
    // The schema is the promise that what comes back is of that type.
    return this.#execute(command, args, options) as Promise<QmpReturn<Command>>;
  }

  #execute(command: string, args: object, options: QmpExecuteOptions): Promise<unknown> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const outOfBand = options.outOfBand === true;
    const id = this.#nextId++;
    let line: string;
    try {
      if (outOfBand && !this.#hasOutOfBand) throw this.#noOutOfBandError(command);
      const issues = this.#checker?.checkArguments(command, args) ?? [];
      if (issues.length > 0) throw badArguments(command, issues);
      const text = renderArguments(command, args);
      line = `{"${outOfBand ? "exec-oob" : "execute"}":${JSON.stringify(command)},"arguments":${text},"id":${id}}\n`;
    } catch (error) {
      return Promise.reject(error);
    }
    const timeoutMs = options.timeoutMs ?? DEFAULT_QMP_TIMEOUT_MS;
    const wait = startWait<unknown>(
      { timeoutMs, signal: options.signal },
      () => this.#timeoutError(`the reply to ${command}`, timeoutMs),
      () => this.#pending.delete(id),
    );
    if (options.signal?.aborted !== true) {
      this.#pending.set(id, { command, args, wait });
      this.#stream.write(line);
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
  once<const Name extends OrOther<QmpEventName>>(
    name: Name,
    options: WaitOptions & { readonly where?: (event: QmpEvent<Name>) => boolean } = {},
  ): Promise<QmpEvent<Name>> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const listen = (event: QmpEvent): void => {
      try {
        const found = event as QmpEvent<Name>;
        if (event.event === name && options.where?.(found) !== false) wait.resolve(found);
      } catch (error) {
        wait.reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const fail = (error: QemuError): void => wait.reject(error);
    const wait = startWait<QmpEvent<Name>>(
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
  events(options?: QmpEventsOptions): AsyncIterableIterator<QmpEvent>;
  /**
   * Events of some names from now on, each typed by its name.
   *
   * @param names - One name or several.
   * @param options - As above.
   * @example
   * for await (const { event, data } of qmp.events(["JOB_STATUS_CHANGE", "BLOCK_IO_ERROR"])) {
   *   if (event === "BLOCK_IO_ERROR") console.log(data.reason);
   * }
   */
  events<const Name extends OrOther<QmpEventName>>(
    names: Name | readonly Name[],
    options?: QmpEventsOptions,
  ): AsyncIterableIterator<QmpEvent<Name>>;
  events(
    first: string | readonly string[] | QmpEventsOptions = {},
    second: QmpEventsOptions = {},
  ): AsyncIterableIterator<QmpEvent> {
    const names = typeof first === "string" ? [first] : isNames(first) ? first : undefined;
    const source = {
      onEvent: (listener: (event: QmpEvent) => void) => added(this.#listeners, listener),
      onEnd: (listener: () => void) => added(this.#endListeners, listener),
    };
    const options = names === undefined ? (first as QmpEventsOptions) : second;
    const isWanted = ({ event }: QmpEvent): boolean => names === undefined || names.includes(event);
    return iterateEvents(this.#end === undefined ? source : undefined, isWanted, options);
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
    const id = typeof message.id === "number" ? message.id : 0;
    const pending = this.#pending.get(id);
    // Without an id: QEMU could not even parse the command, which this client never causes.
    // An unknown id: the reply to a command that timed out or was called off.
    if (pending === undefined) return;
    const { command, args, wait } = pending;
    if (isObject(message.error)) {
      this.#pending.delete(id);
      const { class: qmpClass, desc } = message.error;
      void this.#explain(command, args, String(qmpClass)).then((details) => {
        const text = `expected QEMU to accept ${command}, got: ${String(desc)}`;
        wait.reject(new QemuError("QEMU_QMP_COMMAND_FAILED", text, { qmpClass: String(qmpClass), ...details }));
      });
      return;
    }
    const issues = this.#checker?.checkReturn(command, message.return) ?? [];
    if (issues.length === 0) wait.resolve(message.return);
    else wait.reject(this.#wrongError(`a return of ${command}`, issues));
  }

  /** What the schema has to say about a command that QEMU refused. */
  async #explain(command: string, args: object, qmpClass: string): Promise<QemuErrorDetails> {
    if (!["CommandNotFound", "GenericError"].includes(qmpClass)) return {};
    const { explainRefusal } = await import("./qmp/checker.ts");
    return explainRefusal({ version: this.#versionName, command, args, qmpClass });
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
    const issues = this.#checker?.checkEvent(name, event.data) ?? [];
    if (issues.length > 0) throw this.#wrongError(`data of ${name}`, issues);
    for (const listener of [...this.#listeners]) listener(event);
  }

  #greet(greeting: Record<string, unknown>): void {
    const version = isObject(greeting.version) ? greeting.version : {};
    const qemu = isObject(version.qemu) ? version.qemu : {};
    this.#greeting = {
      version: { major: Number(qemu.major ?? 0), minor: Number(qemu.minor ?? 0), micro: Number(qemu.micro ?? 0) },
      package: typeof version.package === "string" ? version.package : "",
      capabilities: Array.isArray(greeting.capabilities) ? greeting.capabilities.map(String) : [],
    };
    this.#greetingWait?.resolve(this.#greeting);
  }

  get #hasOutOfBand(): boolean {
    return this.greeting.capabilities.includes("oob");
  }

  /** Such as `7.2`. */
  get #versionName(): string {
    const { major, minor } = this.greeting.version;
    return `${major}.${minor}`;
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

  #noOutOfBandError(command: string): QemuError {
    const text = `expected a connection with out-of-band commands for ${command}, got one on which QEMU offers none`;
    return new QemuError("QEMU_QMP_NO_OUT_OF_BAND", text, { commandLine: this.#commandLine });
  }

  #wrongError(what: string, issues: readonly QmpIssue[]): QemuError {
    return new QemuError("QEMU_QMP_PROTOCOL", `expected ${what} as the schema has it, got\n${renderIssues(issues)}`, {
      commandLine: this.#commandLine,
      issues,
    });
  }

  #protocolError(message: string, cause?: unknown): QemuError {
    return new QemuError("QEMU_QMP_PROTOCOL", message, { commandLine: this.#commandLine, cause });
  }
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value = parseQmpJson(line);
    return isObject(value) ? value : undefined;
  } catch {
    // Not JSON, or nested deeper than the parser's stack.
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNames(value: readonly string[] | QmpEventsOptions): value is readonly string[] {
  return Array.isArray(value);
}

/** Adds to a set; what is returned takes it out again. */
function added<Item>(set: Set<Item>, item: Item): () => void {
  set.add(item);
  return () => set.delete(item);
}
