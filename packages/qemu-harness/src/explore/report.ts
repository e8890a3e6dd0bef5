import { SECTOR_BYTES } from "../block/nbd-server.ts";
import type { BlockRequest, SectorRange } from "../block/power-cut.ts";
import type { PowerCutKind } from "./states.ts";

/** A power cut after which an invariant does not hold. */
export interface PowerCutFailure {
  /** name of the moment and of what was left, for `only` */
  readonly point: string;
  /** what happened to writes that were not durable; `without` loses one of them */
  readonly writeCache: PowerCutKind;
  /** the last write that reached the disk, undefined when there was none */
  readonly lastWrite: BlockRequest | undefined;
  /** what the scenario had said it had reached */
  readonly marks: readonly string[];
  /** writes of which nothing, or not everything, was there: ranges of sectors that were */
  readonly damaged: readonly { readonly request: BlockRequest; readonly kept: readonly SectorRange[] }[];
  /** what the invariant threw */
  readonly error: unknown;
  /** image of the disk as the power cut left it, where one was asked for */
  readonly imagePath: string | undefined;
}

/** What was tried. */
export interface PowerCutReport {
  readonly seed: number;
  /** writes, zeros and trims of the scenario */
  readonly writes: number;
  readonly flushes: number;
  /** moments and ways in which power could fail that were looked at */
  readonly points: number;
  /** different disks that a machine was started with */
  readonly tried: number;
  /** disks that were the same as one that was tried */
  readonly identical: number;
  /** moments and ways that were left out because there were too many, or something had failed before */
  readonly leftOut: number;
  readonly failures: readonly PowerCutFailure[];
}

/** Requests of a failure that are listed. */
const MAX_LISTED = 8;

/**
 * Renders what was tried for people.
 *
 * @example
 * console.log(renderPowerCuts(await explorePowerCuts(scenario, invariant, options)));
 */
export function renderPowerCuts(report: PowerCutReport): string {
  const { tried, identical, leftOut, writes, flushes, seed, failures } = report;
  const left = leftOut === 0 ? "" : `, ${leftOut} left out`;
  return [
    `${tried} disks tried (${identical} more were the same${left}) of ${writes} writes and ${flushes} flushes, seed ${seed}`,
    ...failures.flatMap((failure) => failureLines(failure, seed)),
  ].join("\n");
}

function failureLines(failure: PowerCutFailure, seed: number): string[] {
  const { point, lastWrite, marks, damaged, writeCache, error, imagePath } = failure;
  const when = lastWrite === undefined ? "before the first write" : `after write ${lastWrite.number}`;
  const reached = marks.length === 0 ? "" : ` and after ${marks.map((mark) => JSON.stringify(mark)).join(", ")}`;
  const listed = damaged.slice(0, MAX_LISTED);
  return [
    `power cut ${when}${reached}: ${error instanceof Error ? error.message : String(error)}`,
    ...(damaged.length === 0 ? ["  every write is there"] : []),
    ...listed.map(({ request, kept }) => `  ${describeRequest(request)} ${describeKept(kept)}`),
    ...(damaged.length > listed.length ? [`  and ${damaged.length - listed.length} more`] : []),
    `  again: { seed: ${seed}, only: [${JSON.stringify(point)}] } (${writeCache})${imagePath === undefined ? "" : `, or the disk ${imagePath}`}`,
  ];
}

function describeRequest({ number, type, sector, sectors }: BlockRequest): string {
  return `${type} ${number} (${sectors * SECTOR_BYTES} bytes from sector ${sector})`;
}

function describeKept(kept: readonly SectorRange[]): string {
  if (kept.length === 0) return "is lost";
  const parts = kept.map(([sector, count]) => (count === 1 ? `${sector}` : `${sector} to ${sector + count - 1}`));
  return `is torn: only sectors ${parts.join(", ")} are there`;
}
