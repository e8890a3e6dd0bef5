import * as z from "zod";
import type { ResolvedMachine } from "./description.ts";
import { QemuError } from "./errors.ts";
import { ignoreClosed } from "./internal/ignore-closed.ts";
import { startWait, type WaitOptions } from "./internal/wait.ts";
import type { QmpClient } from "./qmp.ts";

/** How long an instruction may take with a virtual clock, in `nanoseconds`. */
export const INSTRUCTION_NS = [8, 16, 32, 64] as const;

/** How the time of a machine passes. */
export const clockSchema = z.discriminatedUnion("type", [
  z.strictObject({
    /** as on the host */
    type: z.literal("host"),
  }),
  z.strictObject({
    /** by the instructions that the guest runs, and at once to the next timer when it waits */
    type: z.literal("virtual"),
    /** decides everything that is random; the same machine with the same seed runs the same way */
    seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    /** how long an instruction takes, in `nanoseconds`: with 16 a boot takes about as long as without */
    instructionNs: z.literal(INSTRUCTION_NS).default(16),
    /** what the machine's clock says when it starts, in UTC */
    base: z.iso.datetime().default("2030-01-01T00:00:00Z"),
  }),
]);

/** Frequency of the time stamp counter of a machine with a virtual clock, in `kHz`: one tick a nanosecond. */
export const VIRTUAL_TSC_KHZ = 1_000_000;

/** How long, in `milliseconds`, {@link Machine.advance} may take unless told otherwise. */
export const DEFAULT_ADVANCE_TIMEOUT_MS = 600_000;

/** QEMU's arguments for a virtual clock, none for the host's. */
export function clockArguments({ clock }: Pick<ResolvedMachine, "clock">): string[] {
  if (clock.type === "host") return [];
  return [
    ...["-icount", `shift=${Math.log2(clock.instructionNs)},sleep=off`],
    ...["-rtc", `base=${new Date(clock.base).toISOString().slice(0, 19)},clock=vm`],
    ...["-seed", String(clock.seed)],
    // Tells when time has passed: a watchdog that only this process sets.
    ...["-device", "ib700"],
    ...["-action", "watchdog=pause"],
    // What the guest asks of a virtio device happens at once and not when another thread gets to it.
    ...["-global", "virtio-pci.ioeventfd=off"],
  ];
}

/** Parts of a machine whose answers come when the host has them, by their place in the description. */
export function withoutVirtualClock(machine: ResolvedMachine): readonly (readonly [path: string, why: string])[] {
  if (machine.clock.type === "host") return [];
  const candidates: readonly (readonly [string, boolean, string])[] = [
    ["cpus", machine.cpus > 1, "expected 1 with a virtual clock, by whose instructions time is counted"],
    ["disks", machine.disks.length > 0, "expected none with a virtual clock: the host answers when it can"],
    ["cds", machine.cds.length > 0, "expected none with a virtual clock: the host answers when it can"],
    ["networks", machine.networks.length > 0, "expected none with a virtual clock: others send when they like"],
    ["tpm", machine.tpm !== undefined, "expected none with a virtual clock: another process answers when it can"],
    ["forkable", machine.forkable, "expected false with a virtual clock, which is not kept in templates"],
  ];
  return candidates.flatMap(([path, isThere, why]) => (isThere ? [[path, why] as const] : []));
}

/** A span of time, such as `90s` or `24h`. */
export type Duration = `${number}${"s" | "m" | "h" | "d"}`;

const UNIT_SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
/** Most of a {@link Duration}: a year takes hours. */
const MAX_DAYS = 366;

/** Reads a duration as seconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  const seconds = Number(match?.[1]) * UNIT_SECONDS[match?.[2] as keyof typeof UNIT_SECONDS];
  if (seconds > 0 && seconds <= MAX_DAYS * UNIT_SECONDS.d) return seconds;
  const message = `expected a duration such as "90s", "15m", "24h" or "7d", at most ${MAX_DAYS} days, got ${JSON.stringify(text)}`;
  throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "duration", message }] });
}

/** Ports of the watchdog: 15 sets it to now, 14 to two seconds from now, and so on down to 0; anything turns it off. */
const WATCHDOG_SET = 0x443;
const WATCHDOG_OFF = 0x441;
const WATCHDOG_STEP_SECONDS = 2;
const WATCHDOG_STEPS = 15;

/** The clock of a running machine whose time is counted. */
export class VirtualClock {
  readonly #qmp: QmpClient;
  #last: Promise<void> = Promise.resolve();
  #advances = 0;

  /** @throws {TypeError} For a machine whose clock is the host's. */
  constructor(qmp: QmpClient, { clock }: Pick<ResolvedMachine, "clock">) {
    if (clock.type === "host")
      throw new TypeError('expected a machine with a clock of type "virtual" in its description');
    this.#qmp = qmp;
  }

  /** Whether the machine is stopped and continued to let time pass. */
  get isAdvancing(): boolean {
    return this.#advances > 0;
  }

  /** What {@link Machine.advance} does, one after the other: there is one watchdog. */
  async advance(duration: Duration, options: WaitOptions): Promise<void> {
    const seconds = parseDuration(duration);
    this.#advances += 1;
    const turn = this.#last.then(() => advanceClock(this.#qmp, seconds, options));
    this.#last = turn
      .catch(() => {})
      .finally(() => {
        this.#advances -= 1;
      });
    return turn;
  }
}

/**
 * Waits until time has passed in a guest, which the watchdog tells by stopping it.
 *
 * @param seconds - Rounded up to the watchdog's steps of two.
 * @see QEMU v7.2 `hw/watchdog/wdt_ib700.c`
 */
async function advanceClock(qmp: QmpClient, seconds: number, options: WaitOptions): Promise<void> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_ADVANCE_TIMEOUT_MS;
  const wait = startWait<void>({ timeoutMs, signal: options.signal }, () => {
    const message = `expected ${seconds} s to pass in the guest within ${timeoutMs} ms, got less`;
    return new QemuError("QEMU_QMP_TIMEOUT", message, { timeoutMs });
  });
  const over = new AbortController();
  pass(qmp, seconds, over.signal).then(wait.resolve, wait.reject);
  try {
    await wait.promise;
  } finally {
    over.abort();
    await writePort(qmp, WATCHDOG_OFF, 0).catch(ignoreClosed);
    await qmp.execute("cont").catch(ignoreClosed);
  }
}

async function pass(qmp: QmpClient, seconds: number, signal: AbortSignal): Promise<void> {
  for (let left = Math.ceil(seconds / WATCHDOG_STEP_SECONDS); left > 0; left -= WATCHDOG_STEPS) {
    signal.throwIfAborted();
    // Its own event is sent once a second at most.
    const stopped = qmp.once("STOP", { signal });
    await writePort(qmp, WATCHDOG_SET, WATCHDOG_STEPS - Math.min(left, WATCHDOG_STEPS));
    await qmp.execute("cont");
    await stopped;
  }
}

async function writePort(qmp: QmpClient, port: number, value: number): Promise<void> {
  await qmp.execute("human-monitor-command", { "command-line": `o /b ${port} ${value}` });
}
