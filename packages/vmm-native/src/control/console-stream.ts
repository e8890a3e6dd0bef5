import { Duplex } from "node:stream";
import type { ControlConnection } from "./connection.ts";
import { CONSOLE_BYTES, REQUEST } from "./frames.ts";

/** A console of a guest as a stream: what it writes, and what is typed, no faster than the guest takes it. */
export class ConsoleStream extends Duplex {
  readonly #connection: ControlConnection;
  readonly #guest: number;
  readonly #index: number;
  /** How many bytes the hypervisor has room for. */
  #credit = CONSOLE_BYTES;
  /** Goes on with what could not be typed yet. */
  #resume: (() => void) | undefined;

  constructor(connection: ControlConnection, guest: number, index: number) {
    super({ allowHalfOpen: true });
    this.#connection = connection;
    this.#guest = guest;
    this.#index = index;
  }

  /** The guest has written something. */
  receive(bytes: Uint8Array): void {
    this.push(bytes);
  }

  /** The guest has taken that much of what was typed. */
  taken(bytes: number): void {
    this.#credit += bytes;
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }

  override _read(): void {
    // What comes is pushed.
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    const count = Math.min(chunk.length, this.#credit);
    if (count === 0 && chunk.length > 0) {
      this.#resume = () => this._write(chunk, _encoding, done);
      return;
    }
    this.#credit -= count;
    const next = (): void => {
      if (count === chunk.length) done();
      else this._write(chunk.subarray(count), _encoding, done);
    };
    this.#connection
      .request(REQUEST.input, this.#guest, Uint8Array.of(this.#index), chunk.subarray(0, count))
      .then(next, done);
  }
}
