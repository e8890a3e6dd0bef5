import * as z from "zod";
import { ERROR } from "../format/nbd.ts";
import type { Random } from "../network/random.ts";
import { type NbdRequest, SECTOR_BYTES } from "./nbd-server.ts";

const milliseconds = z.number().min(0).max(600_000);

const errorSchema = z.strictObject({
  /** what fails; `write` also for zeros that are written without being sent */
  on: z.enum(["read", "write", "trim", "flush"]),
  /** only requests that touch one of these sectors of 512 bytes, default all */
  sectors: z.strictObject({ first: z.number().int().min(0), count: z.number().int().min(1).default(1) }).optional(),
  /** only the nth of these requests from now on, from 1, default all */
  nth: z.number().int().min(1).optional(),
  /** part of these requests that fails, 0 to 1, decided by the seed */
  ratio: z.number().min(0).max(1).default(1),
  /** what the guest is told: an input/output error, or that the disk is full */
  error: z.enum(["EIO", "ENOSPC"]).default("EIO"),
});

export const impairmentSchema = z.strictObject({
  errors: z.array(errorSchema).max(64).default([]),
  /** how long each request takes, in `milliseconds` of the host's time */
  delayMs: milliseconds.default(0),
  /** how much longer a request may take, at random: requests then overtake each other */
  jitterMs: milliseconds.default(0),
});

/** What goes wrong with requests to a disk; what is left out does not. */
export type DiskImpairment = z.input<typeof impairmentSchema>;

type Rule = z.output<typeof errorSchema>;

/** What goes wrong, and how often it had the chance to. */
export class Impairments {
  readonly #settings: z.output<typeof impairmentSchema>;
  readonly #seen: number[];
  readonly #random: Random;

  constructor(settings: z.output<typeof impairmentSchema>, random: Random) {
    this.#settings = settings;
    this.#seen = settings.errors.map(() => 0);
    this.#random = random;
  }

  /** The error of the protocol that a request ends with, 0 for none. */
  errorOf(request: NbdRequest): number {
    let found: Rule["error"] | undefined;
    for (const [index, rule] of this.#settings.errors.entries()) {
      if (!concerns(rule, request)) continue;
      const seen = (this.#seen[index] ?? 0) + 1;
      this.#seen[index] = seen;
      if (rule.nth !== undefined && rule.nth !== seen) continue;
      if (rule.ratio < 1 && this.#random() >= rule.ratio) continue;
      found ??= rule.error;
    }
    return found === undefined ? ERROR.none : found === "EIO" ? ERROR.io : ERROR.noSpace;
  }

  /** How long a request takes, in `milliseconds`. */
  delay(): number {
    const { delayMs, jitterMs } = this.#settings;
    return delayMs + (jitterMs > 0 ? this.#random() * jitterMs : 0);
  }
}

function concerns({ on, sectors }: Rule, { type, offset, length }: NbdRequest): boolean {
  if (on !== (type === "write-zeroes" ? "write" : type)) return false;
  if (sectors === undefined) return true;
  const first = offset / SECTOR_BYTES;
  return first < sectors.first + sectors.count && sectors.first < first + length / SECTOR_BYTES;
}
