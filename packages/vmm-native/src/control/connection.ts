import type { Duplex } from "node:stream";
import { VmmError } from "../errors.ts";
import { ANSWER, encodeFrame, type Frame, FrameReader } from "./frames.ts";

/** How long, in `milliseconds`, an answer may take: it is given between two turns of guests. */
const ANSWER_TIMEOUT_MS = 120_000;

interface Pending {
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
  readonly timer: NodeJS.Timeout;
}

/** What listens to a guest's events: their kind, and what they say. */
export type EventListener = (kind: number, payload: Uint8Array) => void;

/** Requests to the hypervisor, with their answers, and events. */
export class ControlConnection {
  readonly #stream: Duplex;
  readonly #reader = new FrameReader();
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Map<number, EventListener>();
  #nextTag = 0;
  #failure: { readonly error: unknown } | undefined;

  /** @param stream - Connection to the hypervisor's console; this object is then its only reader and writer. */
  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("error", () => {});
    stream.on("data", (chunk: Uint8Array) => {
      try {
        for (const frame of this.#reader.push(chunk)) this.#receive(frame);
      } catch (error) {
        this.fail(error);
      }
    });
    stream.resume();
  }

  /**
   * Asks for something.
   *
   * @returns What the answer has.
   * @throws {VmmError} `VMM_REFUSED` with what the hypervisor says, `VMM_TIMEOUT`; and what ended the connection.
   */
  request(kind: number, guest: number, ...parts: readonly Uint8Array[]): Promise<Uint8Array> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    let tag = this.#nextTag;
    while (this.#pending.has(tag)) tag = (tag + 1) & 0xffff;
    this.#nextTag = (tag + 1) & 0xffff;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(tag);
        reject(new VmmError("VMM_TIMEOUT", `expected an answer within ${ANSWER_TIMEOUT_MS} ms, got none`));
      }, ANSWER_TIMEOUT_MS);
      this.#pending.set(tag, { resolve, reject, timer });
      this.#stream.write(encodeFrame({ kind, guest, tag }, ...parts));
    });
  }

  /** Has somebody told of the events of a guest; nobody with undefined. */
  listen(guest: number, listener: EventListener | undefined): void {
    if (listener === undefined) this.#listeners.delete(guest);
    else this.#listeners.set(guest, listener);
  }

  /** Ends the connection: everything that waits for an answer, and will ask, gets an error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }

  #receive({ kind, guest, tag, payload }: Frame): void {
    if (kind !== ANSWER.done && kind !== ANSWER.failed) {
      this.#listeners.get(guest)?.(kind, payload);
      return;
    }
    const pending = this.#pending.get(tag);
    if (pending === undefined) throw new VmmError("VMM_PROTOCOL", `expected the answer to a request, got tag ${tag}`);
    this.#pending.delete(tag);
    clearTimeout(pending.timer);
    if (kind === ANSWER.done) pending.resolve(payload);
    else pending.reject(new VmmError("VMM_REFUSED", Buffer.from(payload).toString()));
  }
}
