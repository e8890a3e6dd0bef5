import { type Duplex, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BodyReader, encodeLastRequestHead, isSwitched, type RequestHead } from "./format/http.ts";
import type { ClientHello } from "./format/tls.ts";
import { RetryGuard } from "./retry-guard.ts";
import { type Scrubbed, Scrubber } from "./scrubber.ts";

/** Passes everything on between a guest and a host, in both directions, until both have ended or one has failed. */
export async function relay(stream: Duplex, socket: Duplex): Promise<void> {
  await both(stream, socket, [pipeline(stream, socket), pipeline(socket, stream)]);
}

/**
 * The same for TLS that goes from end to end.
 *
 * @param said - What the guest has said already: its first message, and maybe more.
 * @param onLie - Told of another name that the guest says when it is asked to begin once more; the connection ends then.
 */
export async function relayTls(
  stream: Duplex,
  socket: Duplex,
  { hello, said }: { readonly hello: ClientHello; readonly said: Uint8Array },
  onLie: () => void,
): Promise<void> {
  const { toHost, fromHost } = new RetryGuard(hello, onLie);
  socket.write(said.subarray(0, hello.length));
  if (said.length > hello.length) toHost.write(said.subarray(hello.length));
  await both(stream, socket, [pipeline(stream, toHost, socket), pipeline(socket, fromHost, stream)]);
}

/** What is exchanged over a connection of HTTP. */
export interface Exchange {
  readonly head: RequestHead;
  /** what the guest has said already after the head */
  readonly said: Uint8Array;
  /** what must not come back */
  readonly scrubbed: readonly Scrubbed[];
}

/**
 * Passes on one request and what is answered: a second request could be for somebody else. With a request that asks for
 * WebSocket everything that follows is passed on, if the host agrees to it.
 */
export async function exchange(stream: Duplex, socket: Duplex, { head, said, scrubbed }: Exchange): Promise<void> {
  const answer = head.isUpgrade ? new Answer() : undefined;
  const toHost = async (): Promise<void> => {
    socket.write(encodeLastRequestHead(head));
    if (answer === undefined) {
      const body = oneBody(head);
      body.write(said);
      await pipeline(stream, body, socket);
    } else if (await answer.isSwitched) {
      if (said.length > 0) socket.write(said);
      await pipeline(stream, socket);
    }
  };
  const steps = [...(answer === undefined ? [] : [answer]), ...(scrubbed.length === 0 ? [] : [new Scrubber(scrubbed)])];
  await both(stream, socket, [toHost(), pipeline([socket, ...steps, stream])]);
}

async function both(stream: Duplex, socket: Duplex, ways: readonly Promise<void>[]): Promise<void> {
  try {
    await Promise.all(ways);
  } catch {
    // Either end may go away, and the other one is to know.
    stream.destroy();
    socket.destroy();
  }
}

/** Passes on an answer, and looks whether it changes the protocol. */
class Answer extends Transform {
  readonly isSwitched: Promise<boolean>;
  #decide: (isSwitched: boolean) => void = () => {};
  #begin: Buffer | undefined = Buffer.alloc(0);

  constructor() {
    super();
    this.isSwitched = new Promise((resolve) => {
      this.#decide = resolve;
    });
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: (error: null, chunk: Buffer) => void): void {
    if (this.#begin !== undefined) {
      this.#begin = Buffer.concat([this.#begin, chunk]);
      const found = isSwitched(this.#begin);
      if (found !== undefined) {
        this.#begin = undefined;
        this.#decide(found);
      }
    }
    done(null, chunk);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#decide(false);
    done(error);
  }
}

/** Passes on what belongs to one request, and nothing of what follows. */
function oneBody({ body }: RequestHead): Transform {
  const reader = new BodyReader(body);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        const length = reader.take(chunk);
        done(null, length === 0 ? undefined : chunk.subarray(0, length));
      } catch (error) {
        done(error as Error);
      }
    },
  });
}
