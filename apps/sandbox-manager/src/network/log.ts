import type { NetworkLogEntry } from "./messages.ts";

/**
 * Most kinds of things that are remembered. What was refused longest ago is forgotten first: nobody can push out of the log
 * what was let through.
 */
const MAX_LOG_ENTRIES = 1000;

/** What is noted of one thing that happened. */
export type NetworkEvent = Pick<
  NetworkLogEntry,
  "host" | "port" | "protocol" | "verdict" | "reason" | "rule" | "request"
>;

/** What happened on a network, counted by what it was: a guest can make any number of attempts. */
export class NetworkLog {
  readonly #entries = new Map<string, NetworkLogEntry>();

  /** The entries, the latest last. */
  get entries(): readonly NetworkLogEntry[] {
    return [...this.#entries.values()];
  }

  /** Notes that something happened, or how many bytes went over something that was noted before. */
  note(event: NetworkEvent, bytes?: { readonly sent: number; readonly received: number }): void {
    const { host, port, protocol, verdict, reason, rule, request } = event;
    const key = JSON.stringify([host, port, protocol, verdict, reason, rule, request]);
    const now = Date.now();
    const known = this.#entries.get(key);
    this.#entries.delete(key);
    this.#entries.set(key, {
      ...event,
      times: (known?.times ?? 0) + (bytes === undefined ? 1 : 0),
      firstAt: known?.firstAt ?? now,
      lastAt: now,
      sentBytes: (known?.sentBytes ?? 0) + (bytes?.sent ?? 0),
      receivedBytes: (known?.receivedBytes ?? 0) + (bytes?.received ?? 0),
    });
    if (this.#entries.size <= MAX_LOG_ENTRIES) return;
    const [oldest] = this.#entries.keys();
    const refused = [...this.#entries].find(([, entry]) => entry.verdict === "refused")?.[0] ?? oldest;
    if (refused !== undefined) this.#entries.delete(refused);
  }
}
