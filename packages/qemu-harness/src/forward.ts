import type { z } from "zod";
import { forwardSchema, parseOptions, type ResolvedMachine } from "./description.ts";
import { QemuError } from "./errors.ts";
import { ignoreClosed } from "./internal/ignore-closed.ts";
import type { QmpClient } from "./qmp.ts";

const requestSchema = forwardSchema.extend({
  /** port of the host, default a free one */
  hostPort: forwardSchema.shape.hostPort.optional(),
});

/** A forward to be opened: protocol and address as in a description, the port of the host any free one unless given. */
export type ForwardRequest = z.input<typeof requestSchema>;

/** A port of the host that leads into a machine, until it is closed or the machine ends. */
export interface Forward extends AsyncDisposable {
  readonly protocol: "tcp" | "udp";
  /** IPv4 address of the host that it listens on */
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
  /** Closes it; connections that are open stay. Idempotent. */
  readonly close: () => Promise<void>;
}

/** One row of `info usernet`: what listens on the host. */
interface Listening {
  readonly protocol: string;
  readonly address: string;
  readonly port: number;
  readonly guestPort: number;
}

/** Opens and closes forwards of one machine, one after the other. */
export class Forwarder {
  readonly #qmp: QmpClient;
  readonly #netdev: string;
  #last: Promise<unknown> = Promise.resolve();

  /** @throws {QemuError} `QEMU_BAD_OPTIONS` for a machine without a user network. */
  constructor(qmp: QmpClient, { name, networks }: ResolvedMachine) {
    const index = networks.findIndex(({ type }) => type === "user");
    if (index < 0) {
      const message = `expected a network of type user in ${name}, got none`;
      throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "networks", message }] });
    }
    this.#qmp = qmp;
    this.#netdev = `net${index}`;
  }

  async open(request: ForwardRequest): Promise<Forward> {
    const { protocol, hostAddress, hostPort, guestPort } = parseOptions("forward", requestSchema, request);
    const opened = this.#last.then(async () => {
      const before = new Set((await this.#list()).map(keyOf));
      const rule = `${protocol}:${hostAddress}:${hostPort ?? 0}-:${guestPort}`;
      const answer = await this.#monitor(`hostfwd_add ${this.#netdev} ${rule}`);
      if (answer !== "") throw forwardError(`expected to forward ${rule}, got: ${answer}`);
      const added = (await this.#list()).find((each) => each.guestPort === guestPort && !before.has(keyOf(each)));
      if (added === undefined) throw forwardError(`expected ${rule} among QEMU's forwards, got none`);
      return added.port;
    });
    this.#last = opened.catch(() => {});
    const port = await opened;
    let closing: Promise<unknown> | undefined;
    const close = async (): Promise<void> => {
      closing ??= this.#monitor(`hostfwd_remove ${this.#netdev} ${protocol}:${hostAddress}:${port}`).catch(
        ignoreClosed,
      );
      await closing;
    };
    return { protocol, hostAddress, hostPort: port, guestPort, close, [Symbol.asyncDispose]: close };
  }

  async #list(): Promise<readonly Listening[]> {
    const text = await this.#monitor("info usernet");
    return Array.from(
      text.matchAll(/^ *(TCP|UDP)\[HOST_FORWARD\] +\d+ +([\d.*]+) +(\d+) +[\d.]+ +(\d+) /gm),
      ([, protocol = "", address = "", port, guestPort]) => {
        return { protocol, address, port: Number(port), guestPort: Number(guestPort) };
      },
    );
  }

  // QEMU has this only for people.
  async #monitor(line: string): Promise<string> {
    const answer = await this.#qmp.execute("human-monitor-command", { "command-line": line });
    return answer.replaceAll("\r", "").trim();
  }
}

/** The error of a forward that cannot be. */
export function forwardError(message: string, details: ConstructorParameters<typeof QemuError>[2] = {}): QemuError {
  return new QemuError("QEMU_FORWARD_FAILED", message, {
    ...details,
    hint: "another program listens on this port of the host; leave hostPort out of machine.forward to get a free one",
  });
}

function keyOf({ protocol, address, port }: Listening): string {
  return `${protocol} ${address} ${port}`;
}
