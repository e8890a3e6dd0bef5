import type { Server, Socket } from "node:net";

/** Most connections of a remote signer at a time. */
const MAX_CONNECTIONS = 512;

/**
 * The connections of a server, so that those who have no business with it cannot keep others away: when there is one too
 * many, the oldest goes that has not shown a known token, of the address that has most of these.
 */
export class Connections {
  readonly #strangers = new Map<unknown, Socket>();
  #count = 0;

  constructor(server: Server) {
    server.on("connection", (socket) => this.#add(socket));
  }

  /** Tells that a token came over this connection, encrypted or not, that is known. */
  keep(socket: Socket): void {
    this.#strangers.delete(identityOf(socket));
  }

  #add(socket: Socket): void {
    const identity = identityOf(socket);
    this.#count++;
    this.#strangers.set(identity, socket);
    socket.once("close", () => {
      this.#count--;
      if (this.#strangers.get(identity) === socket) this.#strangers.delete(identity);
    });
    if (this.#count <= MAX_CONNECTIONS) return;
    const [oldest] = this.#mostCrowded();
    oldest?.destroy();
  }

  /** Connections without a known token from one address, oldest first. */
  #mostCrowded(): Socket[] {
    const byAddress = new Map<string, Socket[]>();
    for (const socket of this.#strangers.values()) {
      const address = socket.remoteAddress ?? "";
      const others = byAddress.get(address);
      if (others === undefined) byAddress.set(address, [socket]);
      else others.push(socket);
    }
    return [...byAddress.values()].reduce((most, sockets) => (sockets.length > most.length ? sockets : most), []);
  }
}

/** The same for a TLS socket and the one below it; UNIX sockets have no address, and no TLS. */
function identityOf(socket: Socket): unknown {
  return socket.remotePort === undefined ? socket : `${socket.remoteAddress} ${socket.remotePort}`;
}
