import { randomBytes } from "node:crypto";
import { constants } from "node:os";
import { Duplex, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { getSystemErrorName } from "node:util";
import { parseOptions } from "../description.ts";
import { QemuError, type QemuErrorDetails } from "../errors.ts";
import { startWait, type Wait, type WaitOptions } from "../internal/wait.ts";
import {
  encodeFrame,
  type Frame,
  FrameReader,
  MAX_PAYLOAD,
  numberAt,
  numbers,
  PROTOCOL_VERSION,
  REPLY,
  REQUEST,
  texts,
} from "./frames.ts";
import { GuestStream } from "./guest-stream.ts";
import {
  type ConnectOptions,
  clockSchema,
  connectSchema,
  DEFAULT_MAX_OUTPUT_BYTES,
  DEFAULT_READY_TIMEOUT_MS,
  type ExecOptions,
  type ExecResult,
  encodeClock,
  encodeConnect,
  encodeStart,
  exitOf,
  type GuestProcess,
  type ReadFileOptions,
  type SpawnOptions,
  spawnSchema,
  text,
  type WriteFileOptions,
} from "./options.ts";

const ENTROPY_SIZE = 32;
/** What a guest could not do, by the number of the step: nothing to add for the last, opening it. */
const STEPS = [" as a request", " for its pipes", " for its user", " for its directory", ""];

/** Facts that a {@link GuestAgent} needs of its machine. */
export interface AgentContext {
  readonly commandLine: string;
  /** called each time that the agent says that it runs */
  readonly onHello?: (() => void) | undefined;
  /** number of the first stream: those of the machine that this one is a fork of are not used again */
  readonly firstStream: number;
}

/** The program in the guest that runs others for the host. Many commands can be under way at once. */
export class GuestAgent {
  readonly #port: Duplex;
  readonly #context: AgentContext;
  readonly #reader = new FrameReader();
  readonly #streams = new Map<number, GuestStream>();
  readonly #hellos = new Map<number, Wait<void>>();
  #next: number;
  #end: ((details: QemuErrorDetails) => QemuError) | undefined;

  /**
   * @param port - Connection to the agent's port; this object is then its only reader and writer.
   * @param context - Facts for errors.
   */
  constructor(port: Duplex, context: AgentContext) {
    this.#port = port;
    this.#context = context;
    this.#next = context.firstStream;
    port.on("error", () => {});
    port.on("data", (chunk: Uint8Array) => {
      if (this.#end !== undefined) return;
      try {
        for (const frame of this.#reader.push(chunk)) this.#receive(frame);
      } catch (error) {
        const failure = error instanceof QemuError ? error : this.#error("QEMU_AGENT_PROTOCOL", String(error));
        this.end(() => failure);
      }
    });
  }

  /** Number of the next stream, for the forks of this machine. */
  get nextStream(): number {
    return this.#next;
  }

  /**
   * Waits until the agent runs. Commands wait by themselves; this is to find out whether there is one.
   *
   * @param options - Limit, default {@link DEFAULT_READY_TIMEOUT_MS}, and signal.
   * @throws {QemuError} `QEMU_AGENT_TIMEOUT`, `QEMU_AGENT_PROTOCOL`, `QEMU_EXITED`, `QEMU_CLOSED`, `QEMU_ABORTED`.
   */
  async ready(options: WaitOptions = {}): Promise<void> {
    await this.#hello(numbers(0, 0), options);
  }

  /**
   * Sets the guest's clock, which jumps there, forwards or backwards; time that only counts up does not notice. A clock
   * that is wrong stays wrong until somebody in the guest corrects it, or a checkpoint or fork is made.
   *
   * @param time - From 1970 on; {@link Date} has milliseconds.
   * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_AGENT_TIMEOUT`, `QEMU_ABORTED`.
   * @example
   * await machine.agent.setClock(new Date(Date.now() - 3600_000));
   */
  async setClock(time: Date, options: WaitOptions = {}): Promise<void> {
    const { milliseconds } = parseOptions("clock", clockSchema, { milliseconds: time.getTime() });
    await this.#hello(encodeClock(milliseconds), options);
  }

  /** Gives a machine that continues from a copy the time and a random state of its own; what comes later sees both. */
  awaken(): void {
    this.#hello(Buffer.concat([encodeClock(Date.now()), randomBytes(ENTROPY_SIZE)]), {}).catch(() => {});
  }

  /**
   * Starts a program.
   *
   * @param argv - The program, absolute or found in `PATH`, and its arguments; no shell looks at them.
   * @param options - Directory, variables, user, terminal.
   * @returns The program once it runs. It is killed when the returned object is disposed of.
   * @throws {QemuError} `QEMU_AGENT_REFUSED` when the guest cannot start it, with the reason; `QEMU_BAD_OPTIONS`.
   * @example
   * await using server = await machine.agent.spawn(["python3", "-m", "http.server"]);
   */
  async spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<GuestProcess> {
    const { signal, ...rest } = options;
    const request = parseOptions("program", spawnSchema, { argv, ...rest });
    const stream = this.#open(REQUEST.start, encodeStart(request), `start ${argv[0]}`);
    const abort = (): void => stream.fail(this.#error("QEMU_ABORTED", "called off by its abort signal"));
    if (signal?.aborted === true) abort();
    signal?.addEventListener("abort", abort, { once: true });
    stream.ended.catch(() => {}).finally(() => signal?.removeEventListener("abort", abort));
    const pid = await stream.started;
    const exit = stream.ended.then(exitOf);
    exit.catch(() => {});
    const closed = this.#error("QEMU_CLOSED", `expected the end of ${argv[0]}, got one that was closed`);
    return {
      pid,
      stdin: stream.input,
      stdout: stream.output,
      stderr: stream.error,
      exit,
      kill: (name = "SIGTERM") => stream.signal(constants.signals[name]),
      resize: (rows, columns) => stream.resize(rows, columns),
      [Symbol.asyncDispose]: async () => stream.fail(closed),
    };
  }

  /**
   * Connects to a TCP port that the guest listens on at its loopback, over the agent's own port: the guest needs no network.
   *
   * @param port - The port.
   * @param options - `family`: 4 for `127.0.0.1`, which is the default, or 6 for `::1`.
   * @returns The connection; it fails with `QEMU_AGENT_REFUSED` when nobody listens. It ends when the guest's side does.
   * @throws {QemuError} `QEMU_AGENT_REFUSED` when there is no room for another, `QEMU_BAD_OPTIONS`.
   * @example
   * const socket = await machine.agent.connect(3000);
   */
  async connect(port: number, options: ConnectOptions = {}): Promise<Duplex> {
    const request = parseOptions("connection", connectSchema, { port, ...options });
    const stream = this.#open(REQUEST.connect, encodeConnect(request), `connect to its port ${port}`);
    stream.ended.catch(() => {});
    const closed = this.#error("QEMU_CLOSED", `expected a connection to port ${port}, got one that was closed`);
    // Before anything is waited for: made of streams that have failed already, it would never say so.
    const connection = Duplex.from({ writable: stream.input, readable: stream.output });
    connection.on("error", () => {}).once("close", () => stream.fail(closed));
    await stream.started;
    return connection;
  }

  /**
   * Runs a program to its end. What it leaves running in the background has to have its output elsewhere.
   *
   * @param argv - The program, absolute or found in `PATH`, and its arguments; no shell looks at them.
   * @param options - As for {@link GuestAgent.spawn}, with input, limit and most bytes of output.
   * @returns How it ended, and what it wrote as UTF-8. An exit code other than 0 is no error.
   * @throws {QemuError} As {@link GuestAgent.spawn}; `QEMU_AGENT_TIMEOUT` and `QEMU_OUTPUT_LIMIT`, after which it is killed.
   * @example
   * const { exitCode, stdout } = await machine.agent.exec(["uname", "-r"]);
   */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { input, timeoutMs, signal, maxOutputBytes = DEFAULT_MAX_OUTPUT_BYTES, ...rest } = options;
    const request = parseOptions("program", spawnSchema, { argv, ...rest });
    const stream = this.#open(REQUEST.start, encodeStart(request), `start ${argv[0]}`);
    return this.#within(stream, `the end of ${argv[0]}`, { timeoutMs, signal }, async () => {
      const room = { left: maxOutputBytes };
      const outputs = [stream.output, stream.error].map((output) =>
        this.#collect(stream, output, room, maxOutputBytes),
      );
      stream.input.end(input ?? new Uint8Array());
      const [stdout, stderr] = await Promise.all(outputs);
      return { ...exitOf(await stream.ended), stdout: String(stdout), stderr: String(stderr) };
    });
  }

  /**
   * Reads a file.
   *
   * @throws {QemuError} `QEMU_AGENT_REFUSED` with the guest's reason, `QEMU_OUTPUT_LIMIT`, `QEMU_AGENT_TIMEOUT`.
   */
  async readFile(path: string, options: ReadFileOptions = {}): Promise<Uint8Array> {
    const { maxBytes = DEFAULT_MAX_OUTPUT_BYTES, ...limits } = options;
    const stream = this.#open(REQUEST.read, texts(parseOptions("path", text, path)), `read ${path}`);
    return this.#within(stream, `all of ${path}`, limits, () =>
      this.#collect(stream, stream.output, { left: maxBytes }, maxBytes),
    );
  }

  /**
   * Writes a file, in place of what it held.
   *
   * @param content - All of it, or pieces as they come.
   * @throws {QemuError} `QEMU_AGENT_REFUSED` with the guest's reason, for example a full disk; `QEMU_AGENT_TIMEOUT`.
   */
  async writeFile(
    path: string,
    content: string | Uint8Array | AsyncIterable<Uint8Array>,
    options: WriteFileOptions = {},
  ): Promise<void> {
    const { mode = 0o644, ...limits } = options;
    const request = Buffer.concat([numbers(mode), texts(parseOptions("path", text, path))]);
    const stream = this.#open(REQUEST.write, request, `write ${path}`);
    await this.#within(stream, `all of ${path}`, limits, async () => {
      await stream.started;
      const pieces = typeof content === "string" || content instanceof Uint8Array ? [Buffer.from(content)] : content;
      // A guest that refuses ends the stream with its reason, which says more than what became of the pipeline.
      await Promise.all([
        pipeline(pieces, stream.input).catch((error) => stream.ended.then(() => Promise.reject(error))),
        stream.ended,
      ]);
    });
  }

  /** Ends everything that waits; `make` makes the error. */
  end(make: (details: QemuErrorDetails) => QemuError): void {
    if (this.#end !== undefined) return;
    this.#end = make;
    for (const wait of this.#hellos.values()) wait.reject(make({ waitedFor: "the agent" }));
    for (const stream of [...this.#streams.values()]) stream.fail(make({ waitedFor: "a program in the guest" }));
  }

  #hello(payload: Uint8Array, options: WaitOptions): Promise<void> {
    if (this.#end !== undefined) return Promise.reject(this.#end({ waitedFor: "the agent" }));
    const timeoutMs = options.timeoutMs ?? DEFAULT_READY_TIMEOUT_MS;
    const nonce = this.#take();
    const wait = startWait<void>(
      { timeoutMs, signal: options.signal },
      () =>
        this.#error("QEMU_AGENT_TIMEOUT", `expected the guest's agent to answer within ${timeoutMs} ms, got nothing`, {
          timeoutMs,
          hint: "it needs virtio_console, and in an image systemd 256 or newer, /bin/sh and gzip, or a unit of its own",
        }),
      () => this.#hellos.delete(nonce),
    );
    this.#hellos.set(nonce, wait);
    this.#port.write(encodeFrame(nonce, REQUEST.hello, payload));
    return wait.promise;
  }

  #take(): number {
    this.#next = (this.#next + 1) >>> 0;
    return this.#next;
  }

  #open(kind: number, payload: Uint8Array, what: string): GuestStream {
    if (this.#end !== undefined) throw this.#end({ waitedFor: what });
    if (payload.length > MAX_PAYLOAD) {
      const message = `expected a request of at most ${MAX_PAYLOAD} bytes, got ${payload.length}`;
      throw this.#error("QEMU_BAD_OPTIONS", message);
    }
    const number = this.#take();
    const stream = new GuestStream({
      id: number,
      send: (frame) => this.#port.write(frame),
      refused: (errno, step) => this.#refused(what, errno, step),
      onEnd: () => this.#streams.delete(number),
    });
    this.#streams.set(number, stream);
    this.#port.write(encodeFrame(number, kind, payload));
    return stream;
  }

  #receive(frame: Frame): void {
    if (frame.kind === REPLY.hello) {
      const version = numberAt(frame.payload, 0);
      if (version !== PROTOCOL_VERSION) {
        throw this.#error("QEMU_AGENT_PROTOCOL", `expected an agent of version ${PROTOCOL_VERSION}, got ${version}`);
      }
      this.#context.onHello?.();
      this.#hellos.get(frame.stream)?.resolve();
      return;
    }
    const stream = this.#streams.get(frame.stream);
    if (stream !== undefined) {
      stream.receive(frame);
      return;
    }
    // Of a program that runs on in a fork: nobody reads it, and it is not to wait for that.
    const which = [REPLY.output, REPLY.error].indexOf(frame.kind as never);
    if (which >= 0) this.#port.write(encodeFrame(frame.stream, REQUEST.taken, numbers(frame.payload.length, which)));
  }

  /** Runs `use` with a limit, at which the stream fails. */
  async #within<T>(stream: GuestStream, what: string, options: WaitOptions, use: () => Promise<T>): Promise<T> {
    const { timeoutMs } = options;
    const wait = startWait<T>(options, () =>
      this.#error("QEMU_AGENT_TIMEOUT", `expected ${what} within ${timeoutMs} ms, got less`, { timeoutMs }),
    );
    use().then(wait.resolve, wait.reject);
    try {
      return await wait.promise;
    } catch (error) {
      if (error instanceof QemuError) stream.fail(error);
      throw error;
    }
  }

  async #collect(stream: GuestStream, output: Readable, room: { left: number }, limit: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of output as AsyncIterable<Uint8Array>) {
      room.left -= chunk.length;
      if (room.left < 0) {
        stream.fail(this.#error("QEMU_OUTPUT_LIMIT", `expected at most ${limit} bytes, got more`));
        break;
      }
      chunks.push(chunk);
    }
    await stream.ended;
    return Buffer.concat(chunks);
  }

  #refused(what: string, errno: number, step: number): QemuError {
    const name = errno > 0 && errno < 4096 ? getSystemErrorName(-errno) : String(errno);
    const message = `expected the guest to ${what}, got ${name}${STEPS[step] ?? ""}`;
    return this.#error("QEMU_AGENT_REFUSED", message, { errno: name });
  }

  #error(code: QemuError["code"], message: string, details: QemuErrorDetails = {}): QemuError {
    return new QemuError(code, message, { ...details, commandLine: this.#context.commandLine });
  }
}
