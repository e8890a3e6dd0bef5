import { Readable, Writable } from "node:stream";
import { QemuError } from "../errors.ts";
import { startWait, type Wait } from "../internal/wait.ts";
import { encodeFrame, type Frame, MAX_PAYLOAD, numberAt, numbers, REPLY, REQUEST, WINDOW } from "./frames.ts";

/** How a program in the guest ended, in numbers. */
export interface GuestEnd {
  /** exit code, absent when a signal ended it */
  readonly exitCode?: number | undefined;
  /** number of the signal that ended it */
  readonly signal?: number | undefined;
}

/** What a stream needs of the connection that it is part of. */
export interface StreamContext {
  readonly id: number;
  readonly send: (frame: Buffer) => void;
  /** makes an error of what the guest answered: errno, step */
  readonly refused: (errno: number, step: number) => QemuError;
  /** called once, when nothing more belongs to the stream */
  readonly onEnd: () => void;
}

/** One program or file in the guest, as the agent sees it: bytes in both directions, and an end. */
export class GuestStream {
  readonly input: Writable;
  readonly output: CreditedReadable;
  readonly error: CreditedReadable;
  /** process id, 0 for a file; rejects when there is no such program or file */
  readonly started: Promise<number>;
  readonly ended: Promise<GuestEnd>;
  readonly #context: StreamContext;
  readonly #start: Wait<number> = startWait<number>({}, never);
  readonly #end: Wait<GuestEnd> = startWait<GuestEnd>({}, never);
  #open = true;
  /** bytes that the guest still takes */
  #credit = WINDOW;
  #waiting: (() => void) | undefined;

  constructor(context: StreamContext) {
    this.#context = context;
    this.started = this.#start.promise;
    this.ended = this.#end.promise;
    this.input = new Writable({
      highWaterMark: WINDOW,
      write: (chunk: Uint8Array, _encoding, done) => this.#write(chunk, done),
      final: (done) => {
        this.#send(REQUEST.end);
        done();
      },
    });
    // Somebody who does not want to know of it may leave it alone.
    this.input.on("error", () => {});
    const output = (which: number) => new CreditedReadable((bytes) => this.#send(REQUEST.taken, numbers(bytes, which)));
    this.output = output(0);
    this.error = output(1);
  }

  /** Takes a message of the guest. */
  receive({ kind, payload }: Frame): void {
    if (!this.#open) return;
    if (kind === REPLY.started) this.#start.resolve(numberAt(payload, 0));
    else if (kind === REPLY.output) this.#take(this.output, payload);
    else if (kind === REPLY.error) this.#take(this.error, payload);
    else if (kind === REPLY.taken) this.#grant(numberAt(payload, 0));
    else if (kind === REPLY.failed) this.fail(this.#context.refused(numberAt(payload, 0), numberAt(payload, 1)));
    else if (kind === REPLY.ended) {
      const signal = numberAt(payload, 1);
      this.#finish();
      this.output.push(null);
      this.error.push(null);
      this.#end.resolve(signal === 0 ? { exitCode: numberAt(payload, 0) } : { signal });
    }
  }

  /** Sends a signal to the program and what it has started. */
  signal(number: number): void {
    this.#send(REQUEST.signal, numbers(number));
  }

  /** Sets the size of the program's terminal. */
  resize(rows: number, columns: number): void {
    const size = Buffer.alloc(4);
    size.writeUInt16LE(rows, 0);
    size.writeUInt16LE(columns, 2);
    this.#send(REQUEST.resize, size);
  }

  /** Ends everything with an error; what the guest still has of it is killed or closed there. */
  fail(error: QemuError): void {
    if (!this.#open) return;
    this.#send(REQUEST.close);
    this.#finish();
    for (const stream of [this.input, this.output, this.error]) {
      stream.on("error", () => {});
      stream.destroy(error);
    }
    this.#start.reject(error);
    this.#end.reject(error);
  }

  #finish(): void {
    this.#open = false;
    this.#waiting?.();
    this.#context.onEnd();
  }

  #send(kind: number, payload: Uint8Array = new Uint8Array()): void {
    if (this.#open) this.#context.send(encodeFrame(this.#context.id, kind, payload));
  }

  #take(output: CreditedReadable, payload: Uint8Array): void {
    if (output.receive(payload)) return;
    const message = `expected no more than the ${WINDOW} bytes that it may send unread, got more`;
    this.fail(new QemuError("QEMU_AGENT_PROTOCOL", message));
  }

  #write(chunk: Uint8Array, done: () => void): void {
    // What an ended program would not read any more goes nowhere.
    const length = this.#open ? Math.min(chunk.length, this.#credit, MAX_PAYLOAD) : chunk.length;
    if (length > 0) {
      this.#credit -= length;
      this.#send(REQUEST.data, chunk.subarray(0, length));
    }
    if (length === chunk.length) {
      done();
    } else {
      this.#waiting = () => {
        this.#waiting = undefined;
        this.#write(chunk.subarray(length), done);
      };
    }
  }

  #grant(bytes: number): void {
    this.#credit = Math.min(WINDOW, this.#credit + bytes);
    this.#waiting?.();
  }
}

/** What a guest writes: it may write more when what it wrote has been read. */
class CreditedReadable extends Readable {
  readonly #onRead: (bytes: number) => void;
  #unread = 0;

  constructor(onRead: (bytes: number) => void) {
    super({ highWaterMark: WINDOW });
    this.#onRead = onRead;
  }

  /** @returns Whether the guest was allowed to send it. */
  receive(payload: Uint8Array): boolean {
    this.#unread += payload.length;
    if (this.#unread > WINDOW) return false;
    // In memory of its own: what it came in holds other messages too.
    this.push(Buffer.from(payload));
    return true;
  }

  // Asked for when there is room again.
  override _read(): void {
    if (this.#unread > 0) this.#onRead(this.#unread);
    this.#unread = 0;
  }
}

function never(): Error {
  return new Error("bug: this wait has no limit");
}
