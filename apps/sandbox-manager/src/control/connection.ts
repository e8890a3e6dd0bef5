import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { PassThrough, type Readable, Writable } from "node:stream";
import { SandboxError, type SandboxErrorCode } from "../errors.ts";
import { drained } from "./drained.ts";
import { decodeJson, encodeData, encodeFrame, encodeJson, type Frame, framesOf, KIND } from "./frames.ts";
import { type Message, type Reply, type Request, replySchema } from "./requests.ts";

/** How a program in a sandbox ended. */
export interface SandboxExit {
  /** exit code, absent when a signal ended it */
  readonly exitCode?: number | undefined;
  /** name of the signal that ended it */
  readonly signal?: string | undefined;
}

/** A program that runs in a sandbox. */
export interface SandboxProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** nothing comes here from a program that has a terminal */
  readonly stderr: Readable;
  /** how it ended; rejects when the sandbox ends first */
  readonly exit: Promise<SandboxExit>;
  /** Sends a signal to the program and what it has started. */
  readonly kill: (signal: NodeJS.Signals) => void;
  /** Sets the size of its terminal. */
  readonly resize: (rows: number, columns: number) => void;
  /** Goes away from it, as a terminal does: it gets `SIGHUP`, and nothing of it is read any more. */
  readonly close: () => void;
}

/** The supervisor of one sandbox. */
export interface Supervisor {
  /** path of its socket */
  readonly path: string;
  /** id of the sandbox */
  readonly id: string;
}

/** How long a supervisor may take to say that it is there, in `milliseconds`. */
const ANSWER_TIMEOUT_MS = 15_000;

/** A connection to a supervisor, with the answer to its request. */
interface Connection {
  readonly socket: Socket;
  readonly frames: AsyncGenerator<Frame, void, void>;
  readonly reply: Reply;
}

/**
 * Asks a supervisor for something, and waits until the connection ends: that of a `stop` does when the process has.
 *
 * @param signal - Ends the waiting; what was asked for may be done all the same.
 * @returns What it answers.
 * @throws {SandboxError} `SANDBOX_ENDED` when nobody listens, and whatever the supervisor answers.
 */
export async function ask(supervisor: Supervisor, request: Request, signal?: AbortSignal): Promise<Reply> {
  try {
    const { frames, reply } = await open(supervisor, request, signal);
    for await (const frame of frames) throw new SandboxError("SANDBOX_PROTOCOL", `expected no more, got ${frame.kind}`);
    return reply;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** What a supervisor keeps for somebody, for as long as the connection is there. */
export interface Held {
  readonly reply: Reply;
  readonly release: () => void;
}

/** Asks for something that is there until it is released, or this process ends. @throws As {@link ask}. */
export async function hold(supervisor: Supervisor, request: Request, signal?: AbortSignal): Promise<Held> {
  try {
    const { socket, reply } = await open(supervisor, request, signal);
    return { reply, release: () => void socket.destroy() };
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** What becomes of a question to a supervisor. */
export type Liveness = "answers" | "does not answer" | "has ended";

/** Asks a supervisor whether it is there; one that is held up by something does not answer in {@link ANSWER_TIMEOUT_MS}. */
export async function livenessOf(supervisor: Supervisor): Promise<Liveness> {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  return ask(supervisor, { kind: "status" }, signal).then(
    () => "answers",
    () => (signal.aborted ? "does not answer" : "has ended"),
  );
}

/** Starts a program in a sandbox. @throws As {@link ask}. */
export async function start(
  supervisor: Supervisor,
  request: Extract<Request, { kind: "exec" }>,
): Promise<SandboxProcess> {
  const { socket, frames } = await open(supervisor, request);
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const stdin = new Writable({
    write: (chunk: Uint8Array, _encoding, done) => void socket.write(encodeData(chunk), () => done()),
    final: (done) => void socket.write(encodeFrame(KIND.end), () => done()),
  });
  // Who does not want to know of it may leave it alone.
  stdin.on("error", () => {});
  const exit = receive(frames, { [KIND.data]: stdout, [KIND.error]: stderr }).finally(() => {
    socket.destroy();
    stdout.end();
    stderr.end();
  });
  exit.catch(() => {});
  const control = (message: object): void => void socket.write(encodeJson(message, KIND.control));
  return {
    stdin,
    stdout,
    stderr,
    exit,
    kill: (signal) => control({ signal }),
    resize: (rows, columns) => control({ rows, columns }),
    close: () => {
      socket.destroy();
      // Whoever waits for room in them would wait for ever.
      stdout.destroy();
      stderr.destroy();
    },
  };
}

async function receive(
  frames: AsyncGenerator<Frame, void, void>,
  outputs: Readonly<Record<number, PassThrough>>,
): Promise<SandboxExit> {
  for await (const frame of frames) {
    const output = outputs[frame.kind];
    if (output !== undefined) {
      if (!output.write(frame.payload)) await drained(output);
      continue;
    }
    const reply = replySchema.parse(decodeJson(frame));
    if ("error" in reply) throw errorOf(reply.error);
    if (!("ok" in reply)) return reply;
  }
  throw ended();
}

async function open({ path, id }: Supervisor, request: Request, signal?: AbortSignal): Promise<Connection> {
  signal?.throwIfAborted();
  const socket = connect({ path, signal });
  try {
    await once(socket, "connect");
  } catch (cause) {
    throw ended(cause);
  }
  // What goes wrong from here on shows where it is read.
  socket.on("error", () => {});
  socket.write(encodeJson({ to: id, request } satisfies Message));
  const frames = framesOf(socket);
  const { value: first } = await frames.next();
  if (first === undefined) throw ended();
  const reply = replySchema.parse(decodeJson(first));
  if (!("error" in reply)) return { socket, frames, reply };
  socket.destroy();
  throw errorOf(reply.error);
}

function errorOf({ code, message, hint }: { code: string; message: string; hint?: string | undefined }): SandboxError {
  return new SandboxError(code as SandboxErrorCode, message, { hint });
}

function ended(cause?: unknown): SandboxError {
  return new SandboxError("SANDBOX_ENDED", "expected a sandbox that runs, got one that has ended", {
    cause,
    hint: "leveret-sandbox start starts another",
  });
}
