import { setTimeout as sleep } from "node:timers/promises";
import { QemuError } from "../errors.ts";
import type { WaitOptions } from "../internal/wait.ts";
import type { Machine } from "../running-machine.ts";

/** How long a matcher waits unless told otherwise, in `milliseconds`. */
export const DEFAULT_MATCHER_TIMEOUT_MS = 60_000;

/** How long the guest is left alone between two looks, in `milliseconds`. */
const LOOK_AGAIN_MS = 250;
/** State of a socket that listens, in `/proc/net/tcp` (Linux `include/net/tcp_states.h`). */
const LISTEN = "0A";

/** What a matcher found. */
export interface Found {
  readonly pass: boolean;
  /** what to say when that is not what was expected */
  readonly message: () => string;
}

/** How long a matcher waits, and on which console it looks. */
export interface MatcherOptions extends WaitOptions {
  /** name of the console, default the first */
  readonly console?: string | undefined;
}

/** Whether a console says something. */
export async function reachesConsole(
  machine: Machine,
  pattern: string | RegExp,
  { console: name, ...limits }: MatcherOptions = {},
): Promise<Found> {
  const found = name === undefined ? machine.serial : machine.console(name);
  try {
    await found.waitFor(pattern, { timeoutMs: DEFAULT_MATCHER_TIMEOUT_MS, ...limits });
    return { pass: true, message: () => `expected ${found.name} not to say ${pattern}, got it` };
  } catch (error) {
    if (!(error instanceof QemuError) || error.code !== "QEMU_CONSOLE_TIMEOUT") throw error;
    return { pass: false, message: () => error.message };
  }
}

/** Whether something in the guest listens on a TCP port, or begins to. */
export async function listensOn(machine: Machine, port: number, limits: WaitOptions = {}): Promise<Found> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const look = async (): Promise<boolean> => {
    const tables = ["/proc/net/tcp", "/proc/net/tcp6"].map((path) => machine.agent.readFile(path).catch(absent));
    return (await Promise.all(tables)).some((table) => isListening(Buffer.from(table).toString("latin1"), hex));
  };
  const until = Date.now() + (limits.timeoutMs ?? DEFAULT_MATCHER_TIMEOUT_MS);
  let pass = await look();
  while (!pass && Date.now() < until) {
    await sleep(LOOK_AGAIN_MS, undefined, limits.signal && { signal: limits.signal });
    pass = await look();
  }
  return {
    pass,
    message: () => `expected port ${port} ${pass ? "to be closed" : "to be listened on"}, got the opposite`,
  };
}

/** @see Linux `Documentation/networking/proc_net_tcp.rst` */
function isListening(table: string, port: string): boolean {
  return new RegExp(`^ *\\d+: [0-9A-F]+:${port} [0-9A-F]+:0000 ${LISTEN} `, "m").test(table);
}

function absent(error: unknown): Uint8Array {
  // A kernel without IPv6 has no table of it.
  if (error instanceof QemuError && error.code === "QEMU_AGENT_REFUSED") return new Uint8Array();
  throw error;
}
