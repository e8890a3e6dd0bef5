import { Transform, type TransformCallback } from "node:stream";
import { malformed } from "./format/packet.ts";
import { type ClientHello, decodeSecondClientHello, isHelloRetryRequest } from "./format/tls.ts";

/** Most bytes that a client sends before it begins once more. */
const MAX_HELD_BYTES = 256 * 1024;

/**
 * Sees to it that whoever is asked to begin TLS once more does not say another name then. The rest of it is passed on as it is:
 * what a guest says after its ClientHello waits until the server has answered that.
 */
export class RetryGuard {
  /** what the server says */
  readonly fromHost: Transform;
  /** what the guest says after its ClientHello */
  readonly toHost: Transform;
  #answer: Buffer = Buffer.alloc(0);
  #isRetry: boolean | undefined;
  #decided: () => void = () => {};
  #held: Buffer = Buffer.alloc(0);

  /** @param onLie - Told of another name. */
  constructor({ serverName }: ClientHello, onLie: () => void) {
    const decision = new Promise<void>((resolve) => {
      this.#decided = resolve;
    });
    this.fromHost = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        this.#look(chunk);
        done(null, chunk);
      },
      flush: (done) => {
        this.#decide(false);
        done();
      },
    });
    this.toHost = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        if (this.#isRetry === false) done(null, chunk);
        else void decision.then(() => this.#pass(chunk, serverName, onLie, done));
      },
    });
    // Nobody waits for an answer that will not come.
    this.fromHost.once("close", () => this.#decide(false));
  }

  #look(chunk: Buffer): void {
    if (this.#isRetry !== undefined) return;
    this.#answer = Buffer.concat([this.#answer, chunk]);
    const isRetry = isHelloRetryRequest(this.#answer);
    if (isRetry !== undefined) this.#decide(isRetry);
  }

  #decide(isRetry: boolean): void {
    this.#isRetry ??= isRetry;
    this.#answer = Buffer.alloc(0);
    this.#decided();
  }

  #pass(chunk: Buffer, serverName: string | undefined, onLie: () => void, done: TransformCallback): void {
    if (this.#isRetry === false) {
      done(null, chunk);
      return;
    }
    try {
      this.#held = Buffer.concat([this.#held, chunk]);
      if (this.#held.length > MAX_HELD_BYTES) throw malformed("a second ClientHello", "something else");
      const hello = decodeSecondClientHello(this.#held);
      if (hello === undefined) {
        done();
        return;
      }
      if (hello.serverName !== serverName || hello.isEncrypted) {
        onLie();
        throw malformed("the same name in a second ClientHello", "another");
      }
      // Nobody is asked a third time.
      this.#isRetry = false;
      done(null, this.#held);
    } catch (error) {
      done(error as Error);
    }
  }
}
