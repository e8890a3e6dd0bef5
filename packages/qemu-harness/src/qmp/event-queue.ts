import { QemuError } from "../errors.ts";
import type { QmpEvent, QmpEventsOptions } from "./types.ts";

/** Most events an iterator holds for a consumer that does not keep up. */
export const DEFAULT_MAX_QUEUED_EVENTS = 4096;

/** Where events come from; both return what ends the subscription. */
export interface EventSource {
  readonly onEvent: (listener: (event: QmpEvent) => void) => () => void;
  readonly onEnd: (listener: () => void) => () => void;
}

/**
 * Events of a source from now on, as long as it lasts.
 *
 * @param source - Undefined when it has ended already.
 * @param isWanted - Which events.
 */
export function iterateEvents(
  source: EventSource | undefined,
  isWanted: (event: QmpEvent) => boolean,
  options: QmpEventsOptions,
): AsyncIterableIterator<QmpEvent> {
  const maxQueued = options.maxQueued ?? DEFAULT_MAX_QUEUED_EVENTS;
  const queue: QmpEvent[] = [];
  const subscriptions: (() => void)[] = [];
  let overflow: QemuError | undefined;
  let ended = source === undefined || options.signal?.aborted === true;
  let wake: () => void = () => {};
  const listen = (event: QmpEvent): void => {
    if (!isWanted(event)) return;
    if (queue.length < maxQueued) {
      queue.push(event);
    } else {
      overflow = new QemuError(
        "QEMU_QMP_OVERFLOW",
        `expected a consumer that keeps up, got ${maxQueued} events waiting`,
      );
      finish();
    }
    wake();
  };
  const finish = (): void => {
    ended = true;
    for (const end of subscriptions.splice(0)) end();
    options.signal?.removeEventListener("abort", finish);
    wake();
  };
  if (source !== undefined && !ended) {
    subscriptions.push(source.onEvent(listen), source.onEnd(finish));
    options.signal?.addEventListener("abort", finish, { once: true });
  }
  const iterator: AsyncIterableIterator<QmpEvent> = {
    async next() {
      for (;;) {
        const value = queue.shift();
        if (value !== undefined) return { done: false, value };
        if (overflow !== undefined) throw overflow;
        if (ended) return { done: true, value: undefined };
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async return() {
      queue.length = 0;
      finish();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}
