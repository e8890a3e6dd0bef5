import { setTimeout as sleep } from "node:timers/promises";
import { QemuError } from "../errors.ts";
import type { WaitOptions } from "../internal/wait.ts";
import type { Machine } from "../machine.ts";

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

/** Properties of a unit that say how it is. */
const UNIT_PROPERTIES = ["LoadState", "ActiveState", "SubState", "Result"] as const;
/** Values that say nothing. */
const USUAL: ReadonlySet<string | undefined> = new Set([undefined, "loaded", "success", "failed", "dead"]);
/** How much of a unit's messages a failed test shows, in lines. */
const JOURNAL_LINES = 20;

/** How long one question to a busy guest may take at least, in `milliseconds`. */
const MIN_ANSWER_MS = 10_000;

/** Whether a systemd unit is active, or becomes so; one that has failed is not waited for. */
export async function hasUnitActive(machine: Machine, unit: string, limits: WaitOptions = {}): Promise<Found> {
  const { timeoutMs = DEFAULT_MATCHER_TIMEOUT_MS, signal } = limits;
  const until = Date.now() + timeoutMs;
  const run = async (...argv: string[]): Promise<string> => {
    const left = Math.max(MIN_ANSWER_MS, until - Date.now());
    const { stdout, stderr } = await machine.agent.exec(argv, { timeoutMs: left, signal });
    return stdout === "" ? stderr : stdout;
  };
  try {
    for (;;) {
      const properties = await run("systemctl", "show", `--property=${UNIT_PROPERTIES.join(",")}`, "--", unit);
      const value = (name: (typeof UNIT_PROPERTIES)[number]): string | undefined =>
        new RegExp(`^${name}=(.*)$`, "m").exec(properties)?.[1];
      const state = value("ActiveState");
      if (state === "active") return { pass: true, message: () => `expected ${unit} not to be active, got that it is` };
      // A unit that systemd starts again is activating, not failed.
      if (state === "failed" || Date.now() >= until) {
        const lines = ["--unit", unit, "--lines", `${JOURNAL_LINES}`];
        const said =
          state === undefined ? properties : await run("journalctl", ...lines, "--output", "cat", "--no-pager");
        const details = [value("SubState"), value("LoadState"), value("Result")].filter((each) => !USUAL.has(each));
        const how = [state ?? "no answer", ...(details.length === 0 ? [] : [`(${details.join(", ")})`])].join(" ");
        return { pass: false, message: () => `expected ${unit} to be active, got ${how}\n${said}`.trimEnd() };
      }
      await sleep(LOOK_AGAIN_MS, undefined, signal && { signal });
    }
  } catch (error) {
    if (!(error instanceof QemuError) || error.code !== "QEMU_AGENT_TIMEOUT") throw error;
    return { pass: false, message: () => `expected ${unit} to be active, got no answer: ${error.message}` };
  }
}
