import type { DiskEvent } from "../block/node-disk.ts";
import {
  applyFate,
  type Change,
  type Fate,
  fatesOf,
  isWhole,
  lost,
  type WriteCache,
  whole,
} from "../block/power-cut.ts";
import { SectorMap } from "../block/sector-map.ts";
import { seededRandom } from "../network/random.ts";

/** What a power cut may do to what was written since the last flush. */
export type PowerCutKind = WriteCache | "without";

/** One moment at which power fails, and one way of what is left then. */
export interface Point {
  /** how many events of the disk had happened */
  readonly end: number;
  readonly kind: PowerCutKind;
  /** of several of this kind at this moment, which one; of `without`, the write that is missing, from 0 */
  readonly draw: number;
  /** whether it is one of those that are tried first when there are too many */
  readonly isFirst: boolean;
}

/** How many points there are of what. */
export interface PointLimits {
  readonly tornPerWrite: number;
  readonly reorderedPerFlush: number;
}

/** Name of a point, the same for the same events and options. */
export function nameOf({ end, kind, draw }: Point): string {
  return `${end}:${kind}:${draw}`;
}

/**
 * All moments at which power could have failed: after every write, before every flush was answered, after every mark and
 * at the end.
 */
export function pointsOf(events: readonly DiskEvent[], { tornPerWrite, reorderedPerFlush }: PointLimits): Point[] {
  const points: Point[] = [{ end: 0, kind: "lost", draw: 0, isFirst: true }];
  let pending = 0;
  const add = (end: number, kind: PowerCutKind, count = 1, isFirst = false): void => {
    for (let draw = 0; draw < count; draw += 1) points.push({ end, kind, draw, isFirst });
  };
  const addAll = (end: number): void => {
    add(end, "lost", 1, true);
    if (pending > 0) add(end, "kept", 1, true);
    if (pending < 2) return;
    add(end, "without", pending);
    add(end, "reordered", reorderedPerFlush);
  };
  for (const [index, event] of events.entries()) {
    if (event.type === "change") {
      pending += 1;
      add(index + 1, "kept");
      if (event.change.sectors > 1) add(index + 1, "torn", tornPerWrite);
    } else if (event.type === "durable") {
      addAll(index);
      pending -= event.changes.length;
    } else addAll(index + 1);
  }
  addAll(events.length);
  // Two marks in a row, or a mark at the end, are one moment.
  const names = new Set<string>();
  return points.filter((point) => {
    const name = nameOf(point);
    return !names.has(name) && names.add(name) !== undefined;
  });
}

/** Takes at most `limit` points: the first ones first, then any, decided by the seed; in the order of time. */
export function choosePoints(points: readonly Point[], limit: number, seed: number): readonly Point[] {
  if (points.length <= limit) return points;
  const random = seededRandom(seed);
  const ranked = points.map((point, index) => ({ index, rank: random() + (point.isFirst ? 0 : 1) }));
  const chosen = ranked.sort((a, b) => a.rank - b.rank).slice(0, limit);
  return chosen.sort((a, b) => a.index - b.index).map(({ index }) => points[index] as Point);
}

/** What a disk holds after a power cut. */
export interface PowerCutState {
  readonly map: SectorMap;
  /** the last write that reached the disk; undefined when power failed before the first one */
  readonly last: Change | undefined;
  readonly marks: readonly string[];
  /** writes of which nothing, or not everything, is there */
  readonly damaged: readonly Fate[];
}

/** Builds what the disk holds when power fails at a point. */
export function stateAt(
  events: readonly DiskEvent[],
  point: Point,
  { seed, sectorBytes }: { readonly seed: number; readonly sectorBytes: 512 | 4096 },
): PowerCutState {
  const map = new SectorMap();
  const pending = new Set<Change>();
  const marks: string[] = [];
  let last: Change | undefined;
  for (const event of events.slice(0, point.end)) {
    if (event.type === "mark") marks.push(event.name);
    else if (event.type === "change") {
      pending.add(event.change);
      last = event.change;
    } else {
      for (const change of event.changes) {
        pending.delete(change);
        applyFate(map, whole(change));
      }
    }
  }
  const fates = fatesAt([...pending], point, seed, sectorBytes);
  for (const fate of fates) applyFate(map, fate);
  return { map, last, marks, damaged: fates.filter((fate) => !isWhole(fate)) };
}

function fatesAt(
  changes: readonly Change[],
  { end, kind, draw }: Point,
  seed: number,
  sectorBytes: 512 | 4096,
): readonly Fate[] {
  if (kind === "without") return changes.map((change, index) => (index === draw ? lost(change) : whole(change)));
  const random = seededRandom(Math.imul(seed + 1, 0x85eb_ca6b) ^ Math.imul(end + 1, 0xc2b2_ae35) ^ draw);
  return fatesOf(changes, { writeCache: kind, sectorBytes }, random);
}

/** Every sector that is written at all, in order. */
export function touchedSectors(events: readonly DiskEvent[]): Uint32Array {
  const sectors = new Set<number>();
  for (const event of events) {
    if (event.type !== "change") continue;
    const { sector, sectors: count } = event.change;
    for (let at = sector; at < sector + count; at += 1) sectors.add(at);
  }
  return Uint32Array.from(sectors).sort();
}
