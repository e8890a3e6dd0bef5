import type { Socket } from "node:net";
import { type Duplex, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BodyReader, encodeLastRequestHead, type RequestHead } from "./format/http.ts";
import type { Opening } from "./opening.ts";

/**
 * Passes everything on between a guest and a host, in both directions, until both have ended or one has failed.
 *
 * Of HTTP there is one request in a connection: a second one could be for somebody else.
 *
 * @param opening - What the guest has said already.
 */
export async function relay(stream: Duplex, socket: Socket, opening: Opening): Promise<void> {
  const toHost = async (): Promise<void> => {
    if (opening.kind === "http") {
      const { head, bytes } = opening;
      const body = oneBody(head);
      socket.write(encodeLastRequestHead(head));
      body.write(bytes.subarray(head.length));
      await pipeline(stream, body, socket);
      return;
    }
    if (opening.kind === "tls") socket.write(opening.bytes);
    await pipeline(stream, socket);
  };
  try {
    await Promise.all([toHost(), pipeline(socket, stream)]);
  } catch {
    // Either end may go away, and the other one is to know.
    stream.destroy();
    socket.destroy();
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
