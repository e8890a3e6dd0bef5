import type { PcrPrediction } from "../pcr/prediction.ts";
import type { PcrBank } from "../pcr/register.ts";
import { describeEvent } from "./event-content.ts";
import type { EventLog } from "./event-log.ts";
import { digestOf, eventsOf, replayPcr } from "./replay.ts";

/**
 * Predicts that a register will hold what it held in an earlier boot: for what no file says, such as firmware, its settings
 * and boot entries (PCR 0 to 3), and for everything else.
 *
 * @param log - The log of a boot that is known to be good.
 * @param pcr - Number of the register.
 * @param bank - Bank of both logs.
 * @returns The value, and the measurements it is made of, for `explainPcr`; `source` says what the earlier boot measured.
 * @throws {UkiSignError} `UKI_SIGN_EVENT_LOG_INVALID` when the log has no such bank.
 * @example
 * const explanation = explainPcr(log, predictPcrFromLog(yesterday, 1, "sha256"));
 */
export function predictPcrFromLog(log: EventLog, pcr: number, bank: PcrBank): PcrPrediction {
  const measurements = eventsOf(log, pcr, bank).map((event) => ({
    typeName: event.typeName,
    digest: digestOf(event, bank),
    source: `${describeEvent(event)}, as event ${event.index} of the reference`,
  }));
  return { pcr, bank, value: replayPcr(log, pcr, bank).value, measurements };
}
