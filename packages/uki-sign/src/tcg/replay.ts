import { UkiSignError } from "../errors.ts";
import * as tcg from "../format/tcg.ts";
import { extendPcr, PCR_BANKS, PCR_BYTES, type PcrBank } from "../pcr/register.ts";
import type { EventLog, TcgEvent } from "./event-log.ts";

/** What a register holds when a log is true. */
export interface ReplayedPcr {
  readonly pcr: number;
  readonly bank: PcrBank;
  /** value after the log's last event for this register */
  readonly value: Uint8Array;
  /** number of events that extended it */
  readonly events: number;
}

/**
 * Computes what each register holds after the events of a log.
 *
 * @param log - A decoded log.
 * @returns Registers that some event extended, by bank in the log's order, then by number. Banks of other algorithms than
 *   `PCR_BANKS` are left out.
 * @see TCG PC Client Platform Firmware Profile 1.06 section 10.4.5.3 for the start of PCR 0
 * @example
 * const pcr4 = replayEventLog(log).find(({ pcr, bank }) => pcr === 4 && bank === "sha256");
 */
export function replayEventLog(log: EventLog): ReplayedPcr[] {
  return log.algorithms.flatMap(({ name }) => {
    const bank = PCR_BANKS.find((candidate) => candidate === name);
    if (bank === undefined) return [];
    const numbers = [...new Set(log.events.filter(isExtended).map(({ pcr }) => pcr))].sort((a, b) => a - b);
    return numbers.map((pcr) => replayPcr(log, pcr, bank));
  });
}

/** Replays one register; also one that nothing extended. */
export function replayPcr(log: EventLog, pcr: number, bank: PcrBank): ReplayedPcr {
  const events = eventsOf(log, pcr, bank);
  let value = initialValue(log, pcr, bank);
  for (const event of events) value = extendPcr(bank, value, digestOf(event, bank));
  return { pcr, bank, value, events: events.length };
}

/** The events that extended a register of a bank. */
export function eventsOf(log: EventLog, pcr: number, bank: PcrBank): TcgEvent[] {
  if (!log.algorithms.some(({ name }) => name === bank)) {
    const found = log.algorithms.map(({ name }) => name).join(", ");
    const message = `expected a log with the bank ${bank}, got one with ${found}`;
    throw new UkiSignError("UKI_SIGN_EVENT_LOG_INVALID", message, { field: "bank" });
  }
  return log.events.filter((event) => event.pcr === pcr && isExtended(event) && event.digests[bank] !== undefined);
}

/** What an event extended a register with. */
export function digestOf(event: TcgEvent, bank: PcrBank): Uint8Array {
  const digest = event.digests[bank];
  if (digest === undefined) throw new Error(`bug: event ${event.index} has no ${bank} digest`);
  return digest;
}

function isExtended({ type }: TcgEvent): boolean {
  return type !== tcg.EV_NO_ACTION;
}

function initialValue(log: EventLog, pcr: number, bank: PcrBank): Uint8Array {
  const value = new Uint8Array(PCR_BYTES[bank]);
  if (pcr >= tcg.FIRST_DYNAMIC_PCR && pcr <= tcg.LAST_DYNAMIC_PCR) value.fill(0xff);
  else if (pcr === 0) {
    // An H-CRTM measurement before TPM2_Startup counts as locality 4, whatever started the TPM afterwards.
    const measuredEarly = log.events.some(({ type }) => type === tcg.EV_EFI_HCRTM_EVENT);
    value[value.length - 1] = measuredEarly ? 4 : log.startupLocality;
  }
  return value;
}
