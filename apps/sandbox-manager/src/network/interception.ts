import { once } from "node:events";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type SecureContext, TLSSocket } from "node:tls";
import { RefusalError } from "./upstream.ts";

/** What is spoken inside; HTTP/2 is not looked at, so nobody is offered it. */
const PROTOCOLS = ["http/1.1"];
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Answers a guest in place of the host that it wants to talk to.
 *
 * @param said - What the guest has said already: its ClientHello.
 * @returns What goes on inside TLS.
 */
export function answerTls(stream: Duplex, said: Uint8Array, secureContext: SecureContext): TLSSocket {
  stream.unshift(said);
  const secure = new TLSSocket(stream, { isServer: true, secureContext, ALPNProtocols: PROTOCOLS });
  // Who reads or writes it sees what happened to it, too.
  secure.on("error", () => {});
  stream.once("close", () => secure.destroy());
  return secure;
}

/**
 * Begins TLS with a host, as a client that trusts what this process trusts: `NODE_EXTRA_CA_CERTS` adds to it.
 *
 * @throws {RefusalError} `untrusted`, `unreachable`.
 */
export async function beginTls(socket: Socket, servername: string, signal: AbortSignal): Promise<TLSSocket> {
  const secure = connect({ socket, servername, ALPNProtocols: PROTOCOLS, minVersion: "TLSv1.2" });
  try {
    const limit = AbortSignal.timeout(HANDSHAKE_TIMEOUT_MS);
    await once(secure, "secureConnect", { signal: AbortSignal.any([signal, limit]) });
    secure.on("error", () => {});
    return secure;
  } catch (cause) {
    secure.on("error", () => {});
    socket.destroy();
    const isRefused = secure.authorizationError !== undefined && secure.authorizationError !== null;
    const message = `expected a TLS connection with ${servername}, got ${(cause as Error).message}`;
    throw new RefusalError(isRefused ? "untrusted" : "unreachable", message, cause);
  }
}
