import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { SandboxError } from "../errors.ts";
import { within } from "../within.ts";
import type { NetworkReason } from "./messages.ts";
import { isPublicAddress, type Resolver } from "./resolve.ts";
import type { Rule } from "./rules.ts";

/** Where a connection leads. */
export interface Destination {
  readonly addresses: readonly string[];
  readonly port: number;
}

/** How long an address is held to be that of a name, in `milliseconds`. */
const PINNED_MS = 60_000;
const MAX_PINNED = 4096;
/** Most look-ups at a time: the host has a few threads for all that it looks up. */
const MAX_ASKING = 16;
const RESOLVE_TIMEOUT_MS = 15_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** Most addresses of a name that are tried. */
const MAX_ATTEMPTS = 4;

/** A connection that is refused, or fails; `reason` is for programs. */
export class RefusalError extends SandboxError {
  readonly reason: NetworkReason;

  constructor(reason: NetworkReason, message: string, cause?: unknown) {
    super("SANDBOX_NETWORK_REFUSED", message, { cause });
    this.reason = reason;
  }
}

/** The host's side of connections: finds where names lead, and goes there and nowhere else. */
export class Upstream {
  readonly #resolver: Resolver;
  /** look-ups that have not come to an end, also when nobody waits for them any more */
  #asking = 0;
  readonly #pinned = new Map<string, { readonly addresses: Promise<readonly string[]>; readonly until: number }>();

  constructor(resolver: Resolver) {
    this.#resolver = resolver;
  }

  /**
   * Where a name leads by a rule: to public addresses, or where the rule says.
   *
   * @throws {RefusalError} `unresolved`, `private-address`.
   */
  async locate(name: string, port: number, { target }: Rule): Promise<Destination> {
    if (target !== undefined) return { addresses: [target.address], port: target.port ?? port };
    const found = await this.#resolve(name);
    // Looked at each time: this host may have got another address.
    const addresses = found.filter(isPublicAddress);
    if (addresses.length > 0) return { addresses, port };
    throw new RefusalError("private-address", `expected a public address of ${name}, got ${found.join(", ")}`);
  }

  /** Connects to the first address that answers. @throws {RefusalError} `unreachable`. */
  async connect({ addresses, port }: Destination, signal: AbortSignal): Promise<Socket> {
    let cause: unknown;
    for (const host of addresses.slice(0, MAX_ATTEMPTS)) {
      const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
      try {
        await once(socket, "connect", { signal: AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]) });
        return socket;
      } catch (error) {
        cause = error;
        socket.on("error", () => {});
        socket.destroy();
      }
    }
    throw new RefusalError("unreachable", `expected an answer at port ${port} of ${addresses.join(", ")}`, cause);
  }

  async #resolve(name: string): Promise<readonly string[]> {
    const known = this.#pinned.get(name);
    if (known !== undefined && known.until > Date.now()) return known.addresses;
    this.#pinned.delete(name);
    if (this.#pinned.size >= MAX_PINNED) this.#pinned.clear();
    const addresses = this.#ask(name);
    this.#pinned.set(name, { addresses, until: Date.now() + PINNED_MS });
    // What was not found may be there the next time.
    addresses.catch(() => this.#pinned.delete(name));
    return addresses;
  }

  async #ask(name: string): Promise<readonly string[]> {
    if (this.#asking >= MAX_ASKING)
      throw new RefusalError("unresolved", `expected addresses of ${name}, too many are asked`);
    try {
      this.#asking += 1;
      const found = this.#resolver(name).finally(() => {
        this.#asking -= 1;
      });
      const late = (): Error => new Error(`no answer in ${RESOLVE_TIMEOUT_MS} ms`);
      return await within(RESOLVE_TIMEOUT_MS, found, late);
    } catch (cause) {
      throw new RefusalError("unresolved", `expected addresses of ${name}, got none`, cause);
    }
  }
}
