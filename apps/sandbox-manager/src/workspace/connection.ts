import type { Duplex } from "node:stream";
import { SandboxError } from "../errors.ts";
import { encodeNotice, errorReply, finishReply, Request } from "./codec.ts";
import { errnoOf, Refusal } from "./errno.ts";
import { MAX_NOTICES, OPCODE, TELL, TOLD } from "./format/fuse.ts";
import { FrameReader } from "./frame-reader.ts";

/** What the guest has not taken yet, in `bytes`, from which on nothing more is taken from it. */
const MAX_UNSENT = 4 * 1024 * 1024;
/** Requests that are worked on at the same time, from which on nothing more is taken from the guest. */
const MAX_WORKING = 64;
/** Number of errno(3) of an answer that went wrong for no reason that a guest could know. */
const EIO = 5;

/** Answers a request; undefined for one that has no reply. */
export type Answer = (request: Request) => Buffer | Promise<Buffer> | undefined;

/** What the connection tells its owner. */
export interface ConnectionEvents {
  /** a request was answered with `EIO` because of a mistake in here */
  readonly onBug: (error: unknown) => void;
  /** nothing more will come; undefined when the stream has ended as it should */
  readonly onEnd: (error: SandboxError | undefined) => void;
}

/** The requests of one guest, and the replies to them. */
export class Connection {
  readonly #stream: Duplex;
  readonly #answer: Answer;
  readonly #events: ConnectionEvents;
  readonly #reader = new FrameReader((frame) => this.#take(frame));
  #working = 0;
  /** notices that wait until the guest has room for them */
  #notices: Buffer[] = [];
  #noticing = 0;
  #isPaused = false;
  #onPaused: (() => void) | undefined;
  #onNoticed: (() => void)[] = [];
  #ended = false;

  constructor(stream: Duplex, answer: Answer, events: ConnectionEvents) {
    this.#stream = stream;
    this.#answer = answer;
    this.#events = events;
    stream.on("data", this.#onData);
    stream.on("drain", this.#onDrain);
    stream.on("error", this.#onError);
    stream.on("close", this.#onClose);
    // Who had it before may have stopped it, so that nothing is lost.
    this.#mind();
  }

  /** Sends a notice as soon as the guest has room for it. */
  notify(notice: Buffer): void {
    this.#notices.push(notice);
    this.#pump();
  }

  /** Waits until the guest has dealt with all notices, or the connection has ended. */
  async noticed(): Promise<void> {
    if (this.#ended || (this.#notices.length === 0 && this.#noticing === 0)) return;
    await new Promise<void>((resolve) => this.#onNoticed.push(resolve));
  }

  /** Asks the guest to ask nothing more, and waits until everything is answered on both sides. */
  async pause(): Promise<void> {
    if (this.#isPaused) return;
    this.#isPaused = true;
    await new Promise<void>((resolve) => {
      this.#onPaused = resolve;
      this.#stream.write(encodeNotice(TELL.pause));
    });
  }

  /** Lets the guest ask again. */
  resume(): void {
    this.#isPaused = false;
    this.#stream.write(encodeNotice(TELL.resume));
    this.#pump();
  }

  /** Leaves the stream alone from now on. */
  end(error?: SandboxError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.off("data", this.#onData).off("drain", this.#onDrain).off("close", this.#onClose);
    this.#stream.pause();
    this.#notices = [];
    this.#onPaused?.();
    for (const resolve of this.#onNoticed.splice(0)) resolve();
    this.#events.onEnd(error);
  }

  get ended(): boolean {
    return this.#ended;
  }

  readonly #onData = (chunk: Buffer): void => {
    // Replies to requests that came together go together.
    this.#stream.cork();
    try {
      this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      this.end(error);
    } finally {
      this.#stream.uncork();
    }
    this.#mind();
  };

  readonly #onDrain = (): void => this.#mind();

  readonly #onError = (cause: unknown): void => {
    this.end(
      new SandboxError("SANDBOX_WORKSPACE_CLOSED", "expected the guest's requests, got a broken stream", { cause }),
    );
  };

  readonly #onClose = (): void => this.end();

  /** Takes from the guest only what it can be answered. */
  #mind(): void {
    if (this.#ended) return;
    const isFull = this.#stream.writableLength >= MAX_UNSENT || this.#working >= MAX_WORKING;
    if (isFull !== this.#stream.isPaused()) this.#stream[isFull ? "pause" : "resume"]();
  }

  #take(frame: Buffer): void {
    if (this.#ended) return;
    const request = new Request(frame);
    if (request.opcode === TOLD.noticed) this.#takeReceipt(Number(request.unique));
    else if (request.opcode === TOLD.paused) this.#takePaused();
    else this.#work(request);
  }

  #work(request: Request): void {
    let answer: Buffer | Promise<Buffer> | undefined;
    try {
      answer = this.#answer(request);
    } catch (error) {
      answer = this.#refuse(request, error);
    }
    if (answer instanceof Promise) {
      this.#working += 1;
      void answer
        .catch((error: unknown) => this.#refuse(request, error))
        .then((reply) => {
          this.#working -= 1;
          if (reply !== undefined) this.#send(reply, request.unique);
          this.#mind();
        });
    } else if (answer !== undefined) {
      this.#send(answer, request.unique);
    }
  }

  #refuse(request: Request, error: unknown): Buffer | undefined {
    const errno = errnoOf(error);
    if (errno === undefined) this.#events.onBug(error);
    const isSilent = request.opcode === OPCODE.forget || request.opcode === OPCODE.batchForget;
    return isSilent ? undefined : errorReply(request.unique, errno ?? EIO);
  }

  #send(reply: Buffer, unique: bigint): void {
    if (!this.#ended) this.#stream.write(finishReply(reply, unique));
  }

  #takeReceipt(count: number): void {
    this.#noticing = Math.max(0, this.#noticing - count);
    this.#pump();
    if (this.#noticing > 0 || this.#notices.length > 0) return;
    for (const resolve of this.#onNoticed.splice(0)) resolve();
  }

  #takePaused(): void {
    this.#onPaused?.();
    this.#onPaused = undefined;
  }

  #pump(): void {
    if (this.#isPaused || this.#ended) return;
    const room = MAX_NOTICES - this.#noticing;
    if (room <= 0 || this.#notices.length === 0) return;
    const next = this.#notices.splice(0, room);
    this.#noticing += next.length;
    for (const notice of next) this.#stream.write(notice);
  }
}

/** Refuses a request that has no answer here: a kernel then does without. */
export function unknown(): never {
  throw new Refusal("ENOSYS");
}
