import type { Duplex } from "node:stream";
import { UkiSignError } from "../errors.ts";
import { CALLS, FRAME_HEADER_BYTES, HANDSHAKE, PROTOCOL_VERSION } from "../format/p11-kit.ts";
import { concat, copyBytes, viewOf } from "../internal/bytes.ts";
import { AnswerReader, type Call, RequestWriter } from "./message.ts";

/** Longest answer of a PKCS#11 module that is read, in bytes: a certificate with all around it. */
export const DEFAULT_MAX_PKCS11_ANSWER_BYTES = 256 * 1024;

/** How long a call waits for its answer. */
export interface WaitOptions {
  /** time for each call in `milliseconds`; people enter PINs on readers meanwhile */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** A stream to a p11-kit server, and what the server says about itself when it goes away. */
export interface Peer {
  readonly stream: Duplex;
  /** what it printed in the end, for people */
  readonly complaint?: () => Promise<string>;
  readonly close?: () => Promise<void>;
}

/** One conversation with a p11-kit server: a call, then its answer, then the next. */
export class Connection implements AsyncDisposable {
  readonly #peer: Peer;
  readonly #wait: WaitOptions;
  #calls = 0;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(peer: Peer, wait: WaitOptions) {
    this.#peer = peer;
    this.#wait = wait;
    // Told to whoever waits; without a listener it would end the process.
    peer.stream.on("error", () => {});
  }

  /** Shakes hands; closes the stream when that fails. */
  static async open(peer: Peer, wait: WaitOptions): Promise<Connection> {
    const connection = new Connection(peer, wait);
    try {
      peer.stream.write(Uint8Array.of(PROTOCOL_VERSION));
      const [version] = await connection.#read(1, deadline(wait));
      if (version !== PROTOCOL_VERSION) throw unexpected(`protocol version ${PROTOCOL_VERSION}`, String(version));
      await connection.call(CALLS.initialize, (request) =>
        request.byteArray(new TextEncoder().encode(HANDSHAKE)).byte(0).noByteArray(),
      );
      return connection;
    } catch (error) {
      await connection[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Calls a function of the module, after those that were called before.
   *
   * @throws {CallRefused} when the module refuses; {@link UkiSignError} for everything else that goes wrong.
   */
  call(call: Call, write: (request: RequestWriter) => RequestWriter): Promise<AnswerReader> {
    const answer = this.#last.then(() => this.#exchange(call, write(new RequestWriter(call)).bytes()));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #exchange(call: Call, message: Uint8Array): Promise<AnswerReader> {
    this.#calls += 1;
    const header = new Uint8Array(FRAME_HEADER_BYTES);
    viewOf(header).setUint32(0, this.#calls);
    viewOf(header).setUint32(8, message.length);
    this.#peer.stream.write(concat(header, message));
    const until = deadline(this.#wait);
    const frame = viewOf(await this.#read(FRAME_HEADER_BYTES, until));
    const [code, optionBytes, bytes] = [frame.getUint32(0), frame.getUint32(4), frame.getUint32(8)];
    if (code !== this.#calls) throw unexpected(`the answer to call ${this.#calls}`, `one to call ${code}`);
    if (optionBytes + bytes > DEFAULT_MAX_PKCS11_ANSWER_BYTES) {
      throw unexpected(`an answer of at most ${DEFAULT_MAX_PKCS11_ANSWER_BYTES} bytes`, String(optionBytes + bytes));
    }
    await this.#read(optionBytes, until);
    return new AnswerReader(call, await this.#read(bytes, until));
  }

  async #read(size: number, until: AbortSignal): Promise<Uint8Array> {
    const { stream } = this.#peer;
    while (size > 0) {
      const chunk: unknown = stream.read(size);
      if (chunk instanceof Uint8Array && chunk.length === size) return copyBytes(chunk);
      // A shorter piece is the last one.
      if (chunk !== null || stream.readableEnded || stream.destroyed) throw await this.#ended();
      await readable(stream, until, this.#wait);
    }
    return new Uint8Array();
  }

  async #ended(): Promise<UkiSignError> {
    const complaint = (await this.#peer.complaint?.()) ?? "";
    return unexpected("an answer", complaint === "" ? "the end of the connection" : complaint);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#peer.stream.end();
    await this.#peer.close?.();
    this.#peer.stream.destroy();
  }
}

function deadline({ timeoutMs, signal }: WaitOptions): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
}

/** Waits until there is something to read, or never will be. */
function readable(stream: Duplex, until: AbortSignal, { timeoutMs, signal }: WaitOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const events = ["readable", "end", "close", "error"];
    const stop = (): void => {
      for (const event of events) stream.off(event, done);
      until.removeEventListener("abort", abort);
    };
    const done = (): void => {
      stop();
      resolve();
    };
    const abort = (): void => {
      stop();
      reject(signal?.aborted ? signal.reason : unexpected("an answer", `none in ${timeoutMs} ms`));
    };
    for (const event of events) stream.on(event, done);
    until.addEventListener("abort", abort);
    if (until.aborted) abort();
  });
}

function unexpected(expected: string, got: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_PKCS11", `expected ${expected} from p11-kit, got ${got}`);
}
