import type { Duplex } from "node:stream";
import { SandboxError } from "../errors.ts";
import { decodeRequestHead, mayBeRequest, type RequestHead, type Scheme } from "./format/http.ts";
import { type ClientHello, decodeClientHello, TLS_FIRST_BYTE } from "./format/tls.ts";

/** What a connection begins with. */
export type Opening =
  | { readonly kind: "tls"; readonly hello: ClientHello; readonly bytes: Buffer }
  | { readonly kind: "http"; readonly head: RequestHead; readonly bytes: Buffer }
  /** a request or a handshake that is wrong, so that a refusal can be in its own terms */
  | { readonly kind: "bad tls" | "bad http" }
  /** anything else, or nothing */
  | { readonly kind: "none" };

/** So many pieces make an opening; a guest could send it byte by byte, each to be looked at. */
const MAX_PIECES = 256;

/**
 * Reads as much of a connection as tells whom it is for.
 *
 * @param timeoutMs - How long the other end may take.
 * @param scheme - `https` for what comes through TLS.
 */
export async function readOpening(stream: Duplex, timeoutMs: number, scheme: Scheme = "http"): Promise<Opening> {
  const deadline = AbortSignal.timeout(timeoutMs);
  let bytes: Buffer = Buffer.alloc(0);
  for (let pieces = 0; pieces < MAX_PIECES; pieces += 1) {
    const piece = stream.read() as Buffer | null;
    if (piece !== null) bytes = Buffer.concat([bytes, piece]);
    const opening = openingOf(bytes, scheme);
    if (opening !== undefined) return opening;
    if (stream.readableEnded || stream.destroyed || deadline.aborted) return { kind: "none" };
    await change(stream, deadline);
  }
  return { kind: "none" };
}

/** @returns Undefined while there is more to come. */
function openingOf(bytes: Buffer, scheme: Scheme): Opening | undefined {
  if (bytes.length === 0) return undefined;
  const isTls = bytes[0] === TLS_FIRST_BYTE && scheme === "http";
  if (!isTls && !mayBeRequest(bytes)) return { kind: "none" };
  try {
    if (isTls) {
      const hello = decodeClientHello(bytes);
      return hello && { kind: "tls", hello, bytes };
    }
    const head = decodeRequestHead(bytes, scheme);
    return head && { kind: "http", head, bytes };
  } catch (error) {
    if (!(error instanceof SandboxError)) throw error;
    return { kind: isTls ? "bad tls" : "bad http" };
  }
}

/** Waits until there is something to read, or never will be. */
async function change(stream: Duplex, deadline: AbortSignal): Promise<void> {
  const events = ["readable", "end", "close"] as const;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      for (const event of events) stream.removeListener(event, done);
      deadline.removeEventListener("abort", done);
      resolve();
    };
    for (const event of events) stream.once(event, done);
    deadline.addEventListener("abort", done, { once: true });
  });
}
