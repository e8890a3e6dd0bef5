import { z } from "zod";
import { VmmError } from "../errors.ts";

const message = z.string();

const stopReason = z.enum(["power-off", "reset", "halted", "triple-fault", "invalid-state", "unhandled-exit"]);

const eventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("started"), version: z.string(), memory: z.number() }),
  z.object({ event: z.literal("running"), guest: z.number(), memory: z.number(), cpus: z.number() }),
  z.object({ event: z.literal("reset"), guest: z.number() }),
  z.object({
    event: z.literal("stopped"),
    guest: z.number(),
    reason: stopReason,
    message,
    resets: z.number(),
    rips: z.array(z.string()),
    exits: z.record(z.string(), z.number()),
  }),
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

/** A line of the hypervisor's log. */
export type HypervisorEvent = z.output<typeof eventSchema>;

/**
 * Why a guest stopped: by itself with `power-off` or `reset`; `halted` with interrupts disabled; `triple-fault`;
 * `invalid-state` when VMRUN refused its control block; `unhandled-exit` when it did what the hypervisor does not know.
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
  /** how often it exited, by the names of the AMD64 Architecture Programmer's Manual without `VMEXIT_` */
  readonly exits: Readonly<Record<string, number>>;
}

/** Reads one line of the hypervisor's log. */
export function parseEvent(line: string): HypervisorEvent {
  const parsed = eventSchema.safeParse(jsonOf(line));
  if (parsed.success) return parsed.data;
  throw new VmmError("VMM_PROTOCOL", `expected an event of the hypervisor, got ${line}`, { cause: parsed.error });
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
