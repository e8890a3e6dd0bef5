import { once } from "node:events";
import { unlink } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { GuestProcess } from "@leveret/qemu-harness";
import { drained } from "../control/drained.ts";
import { decodeJson, encodeFrame, encodeJson, type Frame, framesOf, KIND } from "../control/frames.ts";
import { controlSchema, messageSchema, type Request } from "../control/requests.ts";
import { SandboxError } from "../errors.ts";
import type { NetworkQuestion } from "../network/messages.ts";
import type { Guest } from "./guest.ts";

/** What requests are about. */
interface Served {
  /** whom they have to be meant for */
  readonly id: string;
  readonly guest: Guest;
  /** told to end it */
  readonly onStop: () => void;
}

/** Answers requests on a socket until it is closed. */
export async function serve(path: string, sandbox: Served): Promise<Server> {
  // Whoever has the lease has the socket; what is left there is of one who had it before.
  await unlink(path).catch(() => {});
  const server = createServer((socket) => void handle(socket, sandbox));
  server.listen(path);
  await once(server, "listening");
  return server;
}

async function handle(socket: Socket, sandbox: Served): Promise<void> {
  // Somebody who goes away in the middle is no fault of this side.
  socket.on("error", () => {});
  try {
    const frames = framesOf(socket);
    const { value: first } = await frames.next();
    if (first === undefined) return;
    const { to, request } = messageSchema.parse(decodeJson(first));
    if (to !== sandbox.id)
      throw new SandboxError("SANDBOX_ENDED", "expected a sandbox that runs, got one that has ended");
    await answer(request, { socket, frames, ...sandbox });
  } catch (error) {
    socket.write(encodeJson({ error: described(error) }));
  } finally {
    socket.end();
  }
}

interface Context extends Served {
  readonly socket: Socket;
  readonly frames: AsyncGenerator<Frame, void, void>;
}

async function answer(request: Request, context: Context): Promise<void> {
  switch (request.kind) {
    case "status":
      context.socket.write(encodeJson({ ok: true }));
      return;
    case "ports":
      context.socket.write(encodeJson({ ok: true, ports: context.guest.ports }));
      return;
    case "network": {
      const network = await askNetwork(context.guest, request.question);
      context.socket.write(encodeJson({ ok: true, network }));
      return;
    }
    case "stop":
      context.socket.write(encodeJson({ ok: true }));
      context.onStop();
      // Ends with this process, which is how the other side knows that nothing is left.
      await once(context.socket, "close");
      return;
    case "checkpoint":
      context.socket.write(encodeJson({ ok: true, checkpoint: await context.guest.checkpoint() }));
      return;
    case "capture":
      await capture(context);
      return;
    case "rewind":
      await context.guest.rewind(request.id);
      context.socket.write(encodeJson({ ok: true }));
      return;
    case "forget":
      await context.guest.forget(request.id);
      context.socket.write(encodeJson({ ok: true }));
      return;
    case "exec":
      await run(request, context);
  }
}

async function capture({ guest, socket, frames }: Context): Promise<void> {
  const id = await guest.capture();
  try {
    socket.write(encodeJson({ ok: true, checkpoint: id }));
    await frames.next();
  } finally {
    await guest.forget(id);
  }
}

async function askNetwork(guest: Guest, question: NetworkQuestion): Promise<unknown> {
  const { gateway } = guest;
  if (question.kind === "why") return gateway.why(question.host, question.port, question.request);
  if (question.kind === "reveals") return gateway.reveals(question.text);
  if (question.kind === "allow") gateway.allow(question.rules);
  if (question.kind === "deny") gateway.deny(question.rules);
  if (question.kind === "secrets") gateway.grant(question.secrets);
  if (question.kind !== "log") await guest.trust();
  return gateway.report;
}

async function run(request: Extract<Request, { kind: "exec" }>, { socket, frames, guest }: Context): Promise<void> {
  const { argv, cwd, env, terminal } = request;
  const whole = { cwd, env: { ...guest.gateway.environment, ...env } };
  const program = await guest.machine.agent.spawn(argv, { ...whole, ...(terminal === undefined ? {} : { terminal }) });
  socket.write(encodeJson({ ok: true }));
  // A program whose caller is gone has nobody left to talk to.
  const gone = (): void => program.kill("SIGHUP");
  socket.once("close", gone);
  void feed(program, frames).catch(gone);
  const copy = async (output: AsyncIterable<Uint8Array>, kind: typeof KIND.data | typeof KIND.error): Promise<void> => {
    for await (const chunk of output) {
      if (!socket.write(encodeFrame(kind, chunk))) await drained(socket);
    }
  };
  await Promise.all([copy(program.stdout, KIND.data), copy(program.stderr, KIND.error)]);
  const end = await program.exit;
  socket.removeListener("close", gone);
  socket.write(encodeJson(end));
}

/** Gives a program what its caller has for it; what it does not read is dropped. */
async function feed(program: GuestProcess, frames: AsyncGenerator<Frame, void, void>): Promise<void> {
  program.stdin.on("error", () => {});
  for await (const frame of frames) {
    if (frame.kind === KIND.data) {
      if (program.stdin.writable && !program.stdin.write(Uint8Array.from(frame.payload))) await drained(program.stdin);
    } else if (frame.kind === KIND.end) program.stdin.end();
    else if (frame.kind === KIND.control) {
      const control = controlSchema.parse(decodeJson(frame));
      if ("signal" in control) program.kill(control.signal as NodeJS.Signals);
      else program.resize(control.rows, control.columns);
    }
  }
}

/** What a person can make of an error, in JSON. */
export function described(error: unknown): { code: string; message: string; hint?: string } {
  const { code, message, hint } = error as { code?: unknown; message?: unknown; hint?: unknown };
  return {
    code: typeof code === "string" ? code : "SANDBOX_PROTOCOL",
    message: typeof message === "string" ? message : String(error),
    ...(typeof hint === "string" ? { hint } : {}),
  };
}
