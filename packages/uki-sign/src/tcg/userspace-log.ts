import { UkiSignError } from "../errors.ts";
import { extendPcr, PCR_BANKS, PCR_BYTES, type PcrBank } from "../pcr/register.ts";
import { DEFAULT_MAX_EVENT_LOG_BYTES, DEFAULT_MAX_EVENTS } from "./event-log.ts";
import type { ReplayedPcr } from "./replay.ts";

/** Something that a running system says it extended a register with. */
export interface UserspaceEvent {
  /** position in the log, counted from 0 */
  readonly index: number;
  /** position in the input, in `bytes` */
  readonly offset: number;
  /** register */
  readonly pcr: number;
  /** what the register was extended with, by bank; other algorithms are left out */
  readonly digests: Readonly<Partial<Record<PcrBank, Uint8Array>>>;
  /** what kind of thing it was: `phase`, `machine-id`, `file-system`, `volume-key` … */
  readonly eventType: string | undefined;
  /** the word that was measured; of a volume key only what it was for */
  readonly text: string | undefined;
  /** boot in which it happened, 32 hexadecimal digits */
  readonly bootId: string | undefined;
  /** time since the machine's start, in `microseconds` */
  readonly timestampUs: number | undefined;
}

const RECORD_SEPARATOR = 0x1e;
/** TPM registers of a PC client. */
const PCR_COUNT = 24;

/**
 * Decodes the log of what systemd measured after the kernel started, `/run/log/systemd/tpm2-measure.log`: a JSON text
 * sequence of records in the manner of TCG's canonical event log.
 *
 * Nothing in a log is true because it is there: replay it and compare with a quote of the TPM.
 *
 * @param log - The whole log.
 * @returns The events in order.
 * @throws {UkiSignError} `UKI_SIGN_EVENT_LOG_INVALID` with the offset of a record that is none, `UKI_SIGN_TOO_LARGE` beyond
 *   {@link DEFAULT_MAX_EVENT_LOG_BYTES} or {@link DEFAULT_MAX_EVENTS}.
 * @see RFC 7464; systemd 257 `docs/TPM2_PCR_MEASUREMENTS.md`; TCG Canonical Event Log Format 1.0, section 5.1
 * @example
 * const events = decodeUserspaceLog(await readFile("/run/log/systemd/tpm2-measure.log"));
 */
export function decodeUserspaceLog(log: Uint8Array): UserspaceEvent[] {
  if (log.length > DEFAULT_MAX_EVENT_LOG_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_EVENT_LOG_BYTES} bytes of event log, got ${log.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const events: UserspaceEvent[] = [];
  for (let start = 0; start < log.length; ) {
    if (log[start] !== RECORD_SEPARATOR) throw invalid(start, "a record separator");
    if (events.length >= DEFAULT_MAX_EVENTS) {
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", `expected at most ${DEFAULT_MAX_EVENTS} events`, { offset: start });
    }
    const next = log.indexOf(RECORD_SEPARATOR, start + 1);
    const end = next === -1 ? log.length : next;
    events.push(decodeRecord(log.subarray(start + 1, end), events.length, start));
    start = end;
  }
  return events;
}

/**
 * Computes what each register holds after a running system's measurements.
 *
 * @param events - As {@link decodeUserspaceLog} gives them.
 * @param before - Registers after the firmware's log, from `replayEventLog`; what is missing there starts with zeros.
 * @returns Those registers and the ones that `events` extended, with their values now, in the order of `before`.
 * @example
 * const registers = replayUserspaceLog(decodeUserspaceLog(text), replayEventLog(decodeEventLog(bytes)));
 */
export function replayUserspaceLog(events: readonly UserspaceEvent[], before: readonly ReplayedPcr[]): ReplayedPcr[] {
  const key = (bank: PcrBank, pcr: number): string => `${bank} ${pcr}`;
  const registers = new Map(before.map((register) => [key(register.bank, register.pcr), register]));
  const banks = PCR_BANKS.filter((bank) => before.length === 0 || before.some((register) => register.bank === bank));
  for (const { pcr, digests } of events) {
    for (const bank of banks) {
      const digest = digests[bank];
      if (digest === undefined) continue;
      const fresh = { pcr, bank, value: new Uint8Array(PCR_BYTES[bank]), events: 0 };
      const register = registers.get(key(bank, pcr)) ?? fresh;
      const value = extendPcr(bank, register.value, digest);
      registers.set(key(bank, pcr), { pcr, bank, value, events: register.events + 1 });
    }
  }
  const order = (bank: PcrBank): number => before.findIndex((register) => register.bank === bank);
  return [...registers.values()].sort((a, b) => order(a.bank) - order(b.bank) || a.pcr - b.pcr);
}

function decodeRecord(bytes: Uint8Array, index: number, offset: number): UserspaceEvent {
  const record = parse(bytes, offset);
  const { pcr, digests, content } = record;
  if (typeof pcr !== "number" || !Number.isInteger(pcr) || pcr < 0 || pcr >= PCR_COUNT) {
    throw invalid(offset, `a register below ${PCR_COUNT}`);
  }
  if (!Array.isArray(digests)) throw invalid(offset, "digests");
  const { eventType, string: text, bootId, timestamp } = isObject(content) ? content : {};
  return {
    index,
    offset,
    pcr,
    digests: Object.fromEntries(digests.flatMap((digest) => decodeDigest(digest, offset))),
    eventType: typeof eventType === "string" ? eventType : undefined,
    text: typeof text === "string" ? text : undefined,
    bootId: typeof bootId === "string" ? bootId : undefined,
    timestampUs: typeof timestamp === "number" ? timestamp : undefined,
  };
}

function decodeDigest(value: unknown, offset: number): [PcrBank, Uint8Array][] {
  if (!isObject(value) || typeof value.hashAlg !== "string" || typeof value.digest !== "string") {
    throw invalid(offset, "a digest with its algorithm");
  }
  const bank = PCR_BANKS.find((known) => known === value.hashAlg);
  if (bank === undefined) return [];
  if (!/^[0-9a-f]*$/i.test(value.digest) || value.digest.length !== 2 * PCR_BYTES[bank]) {
    throw invalid(offset, `${PCR_BYTES[bank]} bytes of ${bank}`);
  }
  return [[bank, Uint8Array.from(Buffer.from(value.digest, "hex"))]];
}

function parse(bytes: Uint8Array, offset: number): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (isObject(value)) return value;
  } catch (cause) {
    throw invalid(offset, "a record in JSON", cause);
  }
  throw invalid(offset, "a record that is a JSON object");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(offset: number, expected: string, cause?: unknown): UkiSignError {
  const message = `expected ${expected} in the log of measurements, got something else`;
  return new UkiSignError("UKI_SIGN_EVENT_LOG_INVALID", message, { offset, ...(cause !== undefined && { cause }) });
}
