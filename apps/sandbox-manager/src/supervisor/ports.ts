import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import type { GuestProcess, Machine } from "@leveret/qemu-harness";
import { SandboxError } from "../errors.ts";

const TRACE = "/sys/kernel/tracing/instances/leveret";

/**
 * Lets the guest's kernel say by itself which ports begin or cease to be listened on: nothing looks again and again. Part of
 * what a template is prepared with, so that what listens right after the start is not missed.
 */
export const WATCH_PORTS = `
mkdir -p ${TRACE}
cd ${TRACE}
echo 'newstate == 10 || oldstate == 10' > events/sock/inet_sock_set_state/filter
echo 1 > events/sock/inet_sock_set_state/enable
`;
const LISTENING = "TCP_LISTEN";
/** `family=AF_INET protocol=IPPROTO_TCP sport=3000 dport=0 … oldstate=TCP_CLOSE newstate=TCP_LISTEN` */
const EVENT = /\bfamily=AF_INET(6?) protocol=IPPROTO_TCP sport=(\d+) .*\boldstate=(\w+) newstate=(\w+)/;
/** Most ports that one guest has on the host at a time. */
const MAX_PORTS = 1024;

/** A port that the guest listens on, and its other end on the host. */
interface OpenPort {
  /** how many sockets of the guest listen on it, by family */
  readonly listeners: { 4: number; 6: number };
  readonly server: Server;
}

/**
 * Opens every port that the guest listens on at the sandbox's own address of the host, until the guest closes it.
 * Connections go through the agent, so the guest needs no network for them, and what listens on `localhost` is reached too.
 *
 * @throws {QemuError} When the machine ends.
 */
export async function forwardPorts(machine: Machine, address: string): Promise<never> {
  const watch = await machine.agent.spawn(["/bin/cat", `${TRACE}/trace_pipe`]);
  const ports = new Map<number, OpenPort>();
  try {
    for await (const line of linesOf(watch)) {
      const [, six, text, before, after] = EVENT.exec(line) ?? [];
      if (text === undefined || before === after) continue;
      const port = Number(text);
      const family = six === "6" ? 6 : 4;
      if (after === LISTENING) listen(ports, { port, family, machine, address });
      else if (before === LISTENING) unlisten(ports, port, family);
    }
    throw new SandboxError(
      "SANDBOX_START_FAILED",
      "expected the guest's kernel to say which ports are listened on, it ceased to",
    );
  } finally {
    for (const { server } of ports.values()) server.close();
  }
}

/** Lines of a program's output; unlike readline's own, an error of the stream is one of the loop. */
async function* linesOf({ stdout }: GuestProcess): AsyncGenerator<string> {
  const failed = once(stdout, "error").then(([error]) => Promise.reject(error));
  failed.catch(() => {});
  const lines = createInterface({ input: stdout })
    .on("error", () => {})
    [Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await Promise.race([lines.next(), failed]);
    if (done === true) return;
    yield value;
  }
}

interface Place {
  readonly port: number;
  readonly family: 4 | 6;
  readonly machine: Machine;
  readonly address: string;
}

function listen(ports: Map<number, OpenPort>, { port, family, machine, address }: Place): void {
  const known = ports.get(port);
  if (known !== undefined) {
    known.listeners[family] += 1;
    return;
  }
  if (ports.size >= MAX_PORTS) return;
  const listeners = { 4: 0, 6: 0, [family]: 1 };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    void connect(socket, machine, port, listeners[4] > 0 ? 4 : 6);
  });
  // Ports below 1024 are root's on the host, and another program may have this one; the guest has it all the same.
  server.on("error", (error) => process.stderr.write(`port ${port} of ${address}: ${error.message}\n`));
  server.listen(port, address);
  ports.set(port, { listeners, server });
}

function unlisten(ports: Map<number, OpenPort>, port: number, family: 4 | 6): void {
  const known = ports.get(port);
  if (known === undefined) return;
  known.listeners[family] -= 1;
  if (known.listeners[4] + known.listeners[6] > 0) return;
  known.server.close();
  ports.delete(port);
}

async function connect(socket: Socket, machine: Machine, port: number, family: 4 | 6): Promise<void> {
  try {
    socket.setNoDelay(true);
    const guest = await machine.agent.connect(port, { family });
    await Promise.all([pipeline(socket, guest, { end: true }), pipeline(guest, socket)]);
  } catch {
    // Either end may go away; the other one sees it.
    socket.destroy();
  }
}
