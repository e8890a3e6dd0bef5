import type { WaitOptions } from "../internal/wait.ts";
import type { QmpCommands, QmpEvents } from "./generated/types.ts";

/** A command that this package knows. */
export type QmpCommandName = keyof QmpCommands;

/** An event that this package knows. */
export type QmpEventName = keyof QmpEvents;

/** A name with completion for those that are known; any other is one too. */
export type OrOther<Name extends string> = Name | (string & Record<never, never>);

/**
 * What a command takes, whichever of the known versions of QEMU runs it: what a version does not have, or does not ask
 * for, is optional. Anything for a command that is not known.
 *
 * @example
 * const node: QmpArguments<"blockdev-add"> = { driver: "null-co", "node-name": "empty", size: 1 << 20 };
 */
export type QmpArguments<Command extends string> = Command extends QmpCommandName
  ? QmpCommands[Command]["arguments"]
  : Readonly<Record<string, unknown>>;

/** What a command returns; `unknown` for one that is not known. */
export type QmpReturn<Command extends string> = Command extends QmpCommandName
  ? QmpCommands[Command]["returns"]
  : unknown;

/** Data of an event; anything for one that is not known. */
export type QmpEventData<Event extends string> = Event extends QmpEventName
  ? QmpEvents[Event]
  : Readonly<Record<string, unknown>>;

/** Something that happened in QEMU. */
export type QmpEvent<Event extends string = string> = Event extends unknown
  ? {
      /** name, such as `SHUTDOWN` */
      readonly event: Event;
      readonly data: QmpEventData<Event>;
      /** host time in `microseconds` since 1970, undefined when QEMU's clock failed */
      readonly timestampUs: number | undefined;
    }
  : never;

/** How a command is run. */
export interface QmpExecuteOptions<Command extends string = string> extends WaitOptions {
  /** whether it overtakes commands that still run, and works while QEMU's main loop hangs; few commands can */
  readonly outOfBand?: CanOvertake<Command> | undefined;
}

type CanOvertake<Command extends string> = Command extends QmpCommandName
  ? QmpCommands[Command] extends { readonly outOfBand: true }
    ? boolean
    : false
  : boolean;

/** Arguments and options of a call: arguments may be left out where nothing is required. */
export type QmpCall<Command extends string> =
  Record<never, never> extends QmpArguments<Command>
    ? [args?: QmpArguments<Command>, options?: QmpExecuteOptions<Command>]
    : [args: QmpArguments<Command>, options?: QmpExecuteOptions<Command>];

/** How events are iterated over. */
export interface QmpEventsOptions {
  /** ends the iteration */
  readonly signal?: AbortSignal | undefined;
  /** how many events may wait for a slow consumer */
  readonly maxQueued?: number | undefined;
}
