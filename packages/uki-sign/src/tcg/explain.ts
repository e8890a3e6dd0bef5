import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import type { PcrMeasurement, PcrPrediction } from "../pcr/prediction.ts";
import type { PcrBank } from "../pcr/register.ts";
import type { EventLog, TcgEvent } from "./event-log.ts";
import { digestOf, eventsOf, replayPcr } from "./replay.ts";

/** Most measurements of a prediction that {@link explainPcr} compares with a log. */
export const DEFAULT_MAX_PREDICTED_MEASUREMENTS = 512;

/** One step of a register, in the log, in the prediction, or in both. */
export type ExplainedMeasurement =
  /** measured as predicted */
  | { readonly kind: "same"; readonly event: TcgEvent; readonly measurement: PcrMeasurement }
  /** something else was measured in this place by an event of the same type */
  | { readonly kind: "changed"; readonly event: TcgEvent; readonly measurement: PcrMeasurement }
  /** predicted, and not in the log */
  | { readonly kind: "missing"; readonly measurement: PcrMeasurement }
  /** in the log, and not predicted */
  | { readonly kind: "unexpected"; readonly event: TcgEvent };

/** How a register came to differ from a prediction, or that it did not. */
export interface PcrExplanation {
  readonly pcr: number;
  readonly bank: PcrBank;
  /** whether the log leads to the predicted value */
  readonly matches: boolean;
  /** value that the log leads to */
  readonly value: Uint8Array;
  /** value that was predicted */
  readonly predicted: Uint8Array;
  /** every step, in order */
  readonly measurements: readonly ExplainedMeasurement[];
}

/**
 * Compares what a log says about a register with a prediction, and finds the events that differ.
 *
 * @param log - A decoded log.
 * @param prediction - What was expected, from `predictPcr4`, `predictPcr7` or `predictPcr11Measurements`.
 * @returns The two values and the steps that lead to them, with as many steps in common as possible.
 * @throws {UkiSignError} `UKI_SIGN_EVENT_LOG_INVALID` when the log has no such bank, `UKI_SIGN_TOO_LARGE` for a prediction of
 *   more than {@link DEFAULT_MAX_PREDICTED_MEASUREMENTS} measurements.
 * @example
 * const { matches, measurements } = explainPcr(log, predictPcr4({ programs }));
 * if (!matches) console.log(measurements.find(({ kind }) => kind !== "same"));
 */
export function explainPcr(log: EventLog, prediction: PcrPrediction): PcrExplanation {
  const { pcr, bank, value: predicted, measurements } = prediction;
  if (measurements.length > DEFAULT_MAX_PREDICTED_MEASUREMENTS) {
    const message = `expected at most ${DEFAULT_MAX_PREDICTED_MEASUREMENTS} measurements, got ${measurements.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { field: "measurements" });
  }
  const { value } = replayPcr(log, pcr, bank);
  const events = eventsOf(log, pcr, bank);
  const matches = Buffer.compare(value, predicted) === 0;
  return { pcr, bank, matches, value, predicted, measurements: align(events, measurements, bank) };
}

/** Longest common subsequence of both, by digest; the table has at most 16384 × 512 entries of two bytes. */
function align(
  events: readonly TcgEvent[],
  measurements: readonly PcrMeasurement[],
  bank: PcrBank,
): ExplainedMeasurement[] {
  const width = measurements.length + 1;
  const wanted = measurements.map(({ digest }) => toHex(digest));
  const found = events.map((event) => toHex(digestOf(event, bank)));
  const common = new Uint16Array((events.length + 1) * width);
  const at = (row: number, column: number): number => common[row * width + column] ?? 0;
  for (let row = events.length - 1; row >= 0; row--) {
    for (let column = measurements.length - 1; column >= 0; column--) {
      common[row * width + column] =
        found[row] === wanted[column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1));
    }
  }
  const steps: ExplainedMeasurement[] = [];
  let extra: TcgEvent[] = [];
  let absent: PcrMeasurement[] = [];
  const closeGap = (): void => {
    steps.push(...pairUp(extra, absent));
    extra = [];
    absent = [];
  };
  for (let row = 0, column = 0; row < events.length || column < measurements.length; ) {
    const event = events[row];
    const measurement = measurements[column];
    if (event !== undefined && measurement !== undefined && found[row] === wanted[column]) {
      closeGap();
      steps.push({ kind: "same", event, measurement });
      row++;
      column++;
    } else if (event !== undefined && (measurement === undefined || at(row + 1, column) >= at(row, column + 1))) {
      extra.push(event);
      row++;
    } else if (measurement !== undefined) {
      absent.push(measurement);
      column++;
    }
  }
  closeGap();
  return steps;
}

/** Between two steps in common: what is of the same type on both sides is one thing that changed. */
function pairUp(extra: readonly TcgEvent[], absent: readonly PcrMeasurement[]): ExplainedMeasurement[] {
  const left = [...absent];
  const steps = extra.flatMap((event): ExplainedMeasurement[] => {
    const index = left.findIndex(({ typeName }) => typeName === event.typeName);
    if (index < 0) return [{ kind: "unexpected", event }];
    const before = left.splice(0, index + 1);
    return before.map((measurement, position) =>
      position === index ? { kind: "changed", event, measurement } : { kind: "missing", measurement },
    );
  });
  return [...steps, ...left.map((measurement): ExplainedMeasurement => ({ kind: "missing", measurement }))];
}
