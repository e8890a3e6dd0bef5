import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { PassThrough, type Readable, Writable } from "node:stream";
import { SandboxError, type SandboxErrorCode } from "../errors.ts";
import { decodeJson, encodeFrame, encodeJson, type Frame, framesOf, KIND } from "./frames.ts";
import { type Reply, type Request, replySchema } from "./requests.ts";

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
}

/** A connection to a supervisor, with the answer to its request. */
interface Connection {
  readonly socket: Socket;
  readonly frames: AsyncGenerator<Frame, void, void>;
  readonly reply: Reply;
}

/**
 * Asks a supervisor for something, and waits until the connection ends: that of a `stop` does when the process has.
 *
 * @returns What it answers.
 * @throws {SandboxError} `SANDBOX_ENDED` when nobody listens, and whatever the supervisor answers.
 */
export async function ask(path: string, request: Request): Promise<Reply> {
  const { frames, reply } = await open(path, request);
  for await (const frame of frames) throw new SandboxError("SANDBOX_PROTOCOL", `expected no more, got ${frame.kind}`);
  return reply;
}

/** Whether a supervisor listens at a path. */
export async function isAlive(path: string): Promise<boolean> {
  return ask(path, { kind: "status" }).then(
    () => true,
    () => false,
  );
}

/** Starts a program in a sandbox. @throws As {@link ask}. */
export async function start(path: string, request: Extract<Request, { kind: "exec" }>): Promise<SandboxProcess> {
  const { socket, frames } = await open(path, request);
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const stdin = new Writable({
    write: (chunk: Uint8Array, _encoding, done) => void socket.write(encodeFrame(KIND.data, chunk), () => done()),
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
  };
}

async function receive(
  frames: AsyncGenerator<Frame, void, void>,
  outputs: Readonly<Record<number, PassThrough>>,
): Promise<SandboxExit> {
  for await (const frame of frames) {
    const output = outputs[frame.kind];
    if (output !== undefined) {
      if (!output.write(frame.payload)) await once(output, "drain");
      continue;
    }
    const reply = replySchema.parse(decodeJson(frame));
    if ("error" in reply) throw errorOf(reply.error);
    if (!("ok" in reply)) return reply;
  }
  throw ended();
}

async function open(path: string, request: Request): Promise<Connection> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
  } catch (cause) {
    throw ended(cause);
  }
  // What goes wrong from here on shows where it is read.
  socket.on("error", () => {});
  socket.write(encodeJson(request));
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
