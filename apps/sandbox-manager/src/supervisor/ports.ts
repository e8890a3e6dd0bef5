import { createServer, type Server, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { type Machine, QemuError } from "@leveret/qemu-harness";

const TRACE = "/sys/kernel/tracing/instances/leveret";

/** Name of the port that the guest's kernel speaks over. */
export const LISTENERS_PORT = "listeners";
/**
 * Lets the guest's kernel say by itself when ports begin or cease to be listened on: nothing looks again and again. Part of
 * what a template is prepared with; it goes on in every copy of a machine.
 */
export const WATCH_PORTS = `
mkdir -p ${TRACE}
cd ${TRACE}
echo 'newstate == 10 || oldstate == 10' > events/sock/inet_sock_set_state/filter
echo 1 > events/sock/inet_sock_set_state/enable
exec 9> /dev/$(basename $(dirname $(grep -lx ${LISTENERS_PORT} /sys/class/virtio-ports/*/name)))
setsid cat trace_pipe < /dev/null >&9 2>&- &
exec 9>&-
`;
/** After this time, in `milliseconds`, it is tried again to see or to open what could not be; twice as long each time. */
const RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;
/** Why a port is not the user's to open, however often it is tried: below 1024 they are root's. */
const FOR_GOOD = ["EACCES", "EADDRNOTAVAIL"];

/** Tables of the kernel's sockets, by the family of their addresses. See Linux, `Documentation/networking/proc_net_tcp.rst`. */
const TABLES = [
  [4, "/proc/net/tcp"],
  [6, "/proc/net/tcp6"],
] as const;
/** `sl local_address:port rem_address:port st …`, where TCP_LISTEN is 0A */
const LISTENING = /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A /;
/** Most ports that one guest has on the host at a time. */
const MAX_PORTS = 1024;

type Agent = Machine["agent"];
type Family = 4 | 6;

/** A guest's ports, on the host. */
export interface Ports {
  /** those that are open now, in order */
  readonly open: () => number[];
  /** when the machine has ended, and nothing is open */
  readonly ended: Promise<void>;
}

/**
 * Opens every port that the guest listens on at the sandbox's own address of the host, until the guest closes it.
 * Connections go through the agent, so the guest needs no network for them, and what listens on `localhost` is reached too.
 */
export function forwardPorts(machine: Machine, address: string): Ports {
  const ports = new HostPorts(machine.agent, address);
  return { open: () => ports.open(), ended: keepOpen(ports, machine) };
}

async function keepOpen(ports: HostPorts, machine: Machine): Promise<void> {
  let retry: NodeJS.Timeout | undefined;
  let wait = RETRY_MS;
  // Looks are one after the other: what is said during one of them is read, all at once, after it.
  let looks = Promise.resolve();
  const look = (): Promise<void> => {
    clearTimeout(retry);
    looks = looks.then(async () => {
      // A guest that cannot be looked at for the moment keeps what it has.
      const wanted = await listening(machine.agent).catch(() => undefined);
      const all = wanted !== undefined && (await ports.match(wanted));
      if (all) return;
      retry = setTimeout(look, wait).unref();
      wait = Math.min(wait * 2, MAX_RETRY_MS);
    });
    return looks;
  };
  try {
    await look();
    for await (const _ of machine.port(LISTENERS_PORT)) {
      wait = RETRY_MS;
      await look();
    }
  } finally {
    await looks;
    clearTimeout(retry);
    await ports.close();
  }
}

/** Ports that something in the guest listens on; with both families, the one that everybody tries first on the host. */
async function listening(agent: Agent): Promise<Map<number, Family>> {
  const found = new Map<number, Family>();
  for (const [family, path] of TABLES) {
    for (const line of (await readTable(agent, path)).split("\n")) {
      const [, port] = LISTENING.exec(line) ?? [];
      if (port === undefined) continue;
      const number = Number.parseInt(port, 16);
      if (!found.has(number) && found.size < MAX_PORTS) found.set(number, family);
    }
  }
  return found;
}

/** What is in a table. One that is not there, as of IPv6 in a kernel without it, is empty. */
async function readTable(agent: Agent, path: string): Promise<string> {
  try {
    return Buffer.from(await agent.readFile(path)).toString("latin1");
  } catch (error) {
    if (error instanceof QemuError && error.errno === "ENOENT") return "";
    throw error;
  }
}

/** A port that the guest listens on, and its other end on the host. */
interface OpenPort {
  readonly server: Server;
  /** of the guest's loopback address that it is reached at */
  family: Family;
}

/** The other ends of a guest's ports. */
class HostPorts {
  readonly #agent: Agent;
  readonly #address: string;
  readonly #open = new Map<number, OpenPort>();
  /** those whose reason for not being open has been said */
  readonly #refused = new Set<number>();

  constructor(agent: Agent, address: string) {
    this.#agent = agent;
    this.#address = address;
  }

  /** The numbers of those that are open, in order. */
  open(): number[] {
    return [...this.#open.keys()].sort((one, other) => one - other);
  }

  /** Opens what has come and closes what has gone. @returns False if it is worth trying again. */
  async match(wanted: ReadonlyMap<number, Family>): Promise<boolean> {
    for (const [port, { server }] of this.#open) {
      if (wanted.has(port)) continue;
      server.close();
      this.#open.delete(port);
    }
    let all = true;
    for (const [port, family] of wanted) {
      const known = this.#open.get(port);
      if (known !== undefined) known.family = family;
      else all = (await this.#add(port, family)) && all;
    }
    return all;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ server }) => new Promise((resolve) => server.close(resolve))));
    this.#open.clear();
  }

  async #add(port: number, family: Family): Promise<boolean> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      void connect(socket, this.#agent, port, opened.family);
    });
    const opened: OpenPort = { server, family };
    const error = await listen(server, port, this.#address);
    if (error === undefined) {
      this.#open.set(port, opened);
      return true;
    }
    // Another program may have it; the guest has it all the same.
    if (!this.#refused.has(port)) process.stderr.write(`port ${port} of ${this.#address}: ${error.message}\n`);
    this.#refused.add(port);
    return FOR_GOOD.includes(error.code ?? "");
  }
}

/** Begins to listen. @returns What is in the way, if something is. */
async function listen(server: Server, port: number, host: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    server.once("listening", () => resolve(undefined));
    // One connection that cannot be accepted is not the end of the others.
    server.on("error", resolve);
    server.listen(port, host);
  });
}

async function connect(socket: Socket, agent: Agent, port: number, family: Family): Promise<void> {
  try {
    socket.setNoDelay(true);
    const guest = await agent.connect(port, { family });
    await Promise.all([pipeline(socket, guest, { end: true }), pipeline(guest, socket)]);
  } catch {
    // Either end may go away; the other one sees it.
    socket.destroy();
  }
}
