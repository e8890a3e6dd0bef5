import { createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import type { GuestProcess, Machine } from "@leveret/qemu-harness";
import { SandboxError } from "../errors.ts";

const TRACE = "/sys/kernel/tracing/instances/leveret";
const WATCHER = "/run/leveret-ports.pid";

/**
 * Lets the guest's kernel say by itself when ports begin or cease to be listened on: nothing looks again and again. Part of
 * what a template is prepared with.
 */
export const WATCH_PORTS = `
mkdir -p ${TRACE}
cd ${TRACE}
echo 'newstate == 10 || oldstate == 10' > events/sock/inet_sock_set_state/filter
echo 1 > events/sock/inet_sock_set_state/enable
`;
/** Prints a line for each event. A copy of a machine has the one of that machine, too, which would take them away. */
const WATCH = ["/bin/sh", "-c", `kill "$(cat ${WATCHER})" 2>&-; echo $$ > ${WATCHER}; exec cat ${TRACE}/trace_pipe`];
const EVENT = "inet_sock_set_state";

/** Tables of the kernel's sockets, by the family of their addresses. See Linux, `Documentation/networking/proc_net_tcp.rst`. */
const TABLES = [
  [4, "/proc/net/tcp"],
  [6, "/proc/net/tcp6"],
] as const;
/** `sl local_address:port rem_address:port st …`, where TCP_LISTEN is 0A */
const LISTENING = /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A /;
/** Most ports that one guest has on the host at a time. */
const MAX_PORTS = 1024;

type Family = 4 | 6;

/** A port that the guest listens on, and its other end on the host. */
interface OpenPort {
  readonly server: Server;
  /** of the guest's loopback address that it is reached at */
  family: Family;
}

/** A guest's ports, on the host. */
export interface Ports {
  /** those that are open now, in order */
  readonly open: () => number[];
  /** rejects with what ended it, when the machine ends: nothing is open then */
  readonly ended: Promise<never>;
}

/**
 * Opens every port that the guest listens on at the sandbox's own address of the host, until the guest closes it.
 * Connections go through the agent, so the guest needs no network for them, and what listens on `localhost` is reached too.
 */
export function forwardPorts(machine: Machine, address: string): Ports {
  const ports = new Map<number, OpenPort>();
  return {
    open: () => [...ports.keys()].sort((one, other) => one - other),
    ended: keepOpen(ports, { machine, address }),
  };
}

async function keepOpen(ports: Map<number, OpenPort>, place: Place): Promise<never> {
  const { agent } = place.machine;
  const watch = await agent.spawn(WATCH);
  const tables = await tablesOf(place.machine);
  let looking: Promise<void> | undefined;
  let again = false;
  // Many events are one look, and an event during a look is another one.
  const look = async (): Promise<void> => {
    while (again) {
      again = false;
      match(ports, await listening(place.machine, tables), place);
    }
  };
  const note = (): void => {
    again = true;
    // A guest that cannot be looked at for the moment keeps what it has.
    looking ??= look()
      .catch(() => {})
      .finally(() => {
        looking = undefined;
      });
  };
  try {
    note();
    const lines = createInterface({ input: watch.stdout }).on("error", () => {});
    lines.on("line", (line) => line.includes(EVENT) && note());
    await ended(watch);
    throw new SandboxError(
      "SANDBOX_START_FAILED",
      "expected the guest's kernel to say which ports are listened on, it ceased to",
    );
  } finally {
    await looking;
    await Promise.all([...ports.values()].map(({ server }) => closed(server)));
    ports.clear();
  }
}

/** Waits for the end of a program's output, and throws what ended it. */
async function ended({ stdout }: GuestProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => stdout.once("end", resolve).once("error", reject));
}

async function closed(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}

type Table = (typeof TABLES)[number];

/** The tables that there are: a kernel without IPv6 has none of it. */
async function tablesOf({ agent }: Machine): Promise<Table[]> {
  const found = await Promise.all(
    TABLES.map((table) =>
      agent.readFile(table[1]).then(
        () => [table],
        () => [],
      ),
    ),
  );
  return found.flat();
}

/** Ports that something in the guest listens on; with both families, the one that everybody tries first on the host. */
async function listening({ agent }: Machine, tables: readonly Table[]): Promise<Map<number, Family>> {
  const found = new Map<number, Family>();
  for (const [family, path] of tables) {
    const table = Buffer.from(await agent.readFile(path)).toString("latin1");
    for (const line of table.split("\n")) {
      const [, port] = LISTENING.exec(line) ?? [];
      if (port === undefined) continue;
      const number = Number.parseInt(port, 16);
      if (!found.has(number) && found.size < MAX_PORTS) found.set(number, family);
    }
  }
  return found;
}

interface Place {
  readonly machine: Machine;
  readonly address: string;
}

/** Opens what has come and closes what has gone. */
function match(ports: Map<number, OpenPort>, wanted: ReadonlyMap<number, Family>, place: Place): void {
  for (const [port, { server }] of ports) {
    if (wanted.has(port)) continue;
    server.close();
    ports.delete(port);
  }
  for (const [port, family] of wanted) {
    const known = ports.get(port);
    if (known === undefined) ports.set(port, open(port, family, place));
    else known.family = family;
  }
}

function open(port: number, family: Family, { machine, address }: Place): OpenPort {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    void connect(socket, machine, port, opened.family);
  });
  const opened: OpenPort = { server, family };
  // Ports below 1024 are root's on the host, and another program may have this one; the guest has it all the same.
  server.on("error", (error) => process.stderr.write(`port ${port} of ${address}: ${error.message}\n`));
  server.listen(port, address);
  return opened;
}

async function connect(socket: Socket, machine: Machine, port: number, family: Family): Promise<void> {
  try {
    socket.setNoDelay(true);
    const guest = await machine.agent.connect(port, { family });
    await Promise.all([pipeline(socket, guest, { end: true }), pipeline(guest, socket)]);
  } catch {
    // Either end may go away; the other one sees it.
    socket.destroy();
  }
}
