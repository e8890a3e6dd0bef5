import { z } from "zod";
import { VmmError } from "../errors.ts";

const message = z.string();

const stopReason = z.enum([
  "power-off",
  "reset",
  "halted",
  "triple-fault",
  "invalid-state",
  "out-of-memory",
  "unhandled-exit",
]);

const eventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("started"), version: z.string(), memory: z.number() }),
  z.object({
    event: z.literal("checked"),
    rule: z.string(),
    broken: z.number(),
    refused: z.boolean(),
    exit: z.string(),
  }),
  z.object({ event: z.literal("tested") }),
  z.object({ event: z.literal("failed"), message }),
  z.object({ event: z.literal("panic"), message }),
]);

const exitsSchema = z.record(z.string(), z.number());

const stopSchema = z.object({ reason: stopReason, message, rips: z.array(z.string()), exits: exitsSchema });

/** How often a guest has exited, by the names of the AMD64 Architecture Programmer's Manual without `VMEXIT_`. */
export type ExitCounts = Readonly<Record<string, number>>;

/** A line of the hypervisor's log. */
export type HypervisorEvent = z.output<typeof eventSchema>;

/**
 * Why a guest stopped: by itself with `power-off` or `reset`; `halted` with interrupts disabled; `triple-fault`;
 * `invalid-state` when VMRUN refused its control block; `out-of-memory` when it wrote to memory that forks have in common, and
 * none was left for a copy; `unhandled-exit` when it did what the hypervisor does not know.
 */
export type StopReason = z.output<typeof stopReason>;

/** How a guest ended. */
export interface GuestStop {
  /** why, for programs */
  readonly reason: StopReason;
  /** why, for people */
  readonly message: string;
  /** how often it has reset itself and begun again */
  readonly resets: number;
  /** address that each of its processors stopped at, or behind which */
  readonly rips: readonly bigint[];
  /** how often it exited */
  readonly exits: ExitCounts;
}

/** Reads one line of the hypervisor's log. */
export function parseEvent(line: string): HypervisorEvent {
  return parse(eventSchema, line, "an event");
}

/** Reads how a guest stopped that has reset itself so often before. */
export function parseStop(text: string, resets: number): GuestStop {
  const { rips, ...facts } = parse(stopSchema, text, "how a guest stopped");
  return { ...facts, resets, rips: rips.map(BigInt) };
}

/** Reads what a guest has exited for. */
export function parseExits(text: string): ExitCounts {
  return parse(exitsSchema, text, "counts of exits");
}

function parse<T extends z.ZodType>(schema: T, text: string, what: string): z.output<T> {
  const parsed = schema.safeParse(jsonOf(text));
  if (parsed.success) return parsed.data;
  throw new VmmError("VMM_PROTOCOL", `expected ${what} of the hypervisor, got ${text}`, { cause: parsed.error });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
