import * as z from "zod";
import type { Random } from "../network/random.ts";
import { SECTOR_BYTES } from "./nbd-server.ts";
import { type Place, type SectorMap, ZERO } from "./sector-map.ts";

export const powerCutSchema = z.strictObject({
  /**
   * what happens to writes that no flush has made durable: `kept` keeps all of them, as a drive without a volatile write
   * cache; `lost` none; `torn` all but the last, and of that one only some sectors; `reordered` any of them, some torn
   */
  writeCache: z.enum(["kept", "lost", "torn", "reordered"]).default("lost"),
  /** what a drive writes in one go, in `bytes`: a torn write has each of them whole or not at all */
  sectorBytes: z.union([z.literal(512), z.literal(4096)]).default(512),
});

/** How power fails. */
export type PowerCutOptions = z.input<typeof powerCutSchema>;

/** What happens to the volatile write cache. */
export type WriteCache = z.output<typeof powerCutSchema>["writeCache"];

/** One request that reached a disk and may change what it holds. */
export interface BlockRequest {
  /** which of the requests that change something, from 1; of a flush, the last one before it */
  readonly number: number;
  readonly type: "write" | "write-zeroes" | "trim" | "flush";
  /** first sector of 512 bytes; 0 for a flush */
  readonly sector: number;
  /** sectors of 512 bytes; 0 for a flush */
  readonly sectors: number;
  /** whether it was to be durable when it was answered (FUA) */
  readonly fua: boolean;
}

/** A request that changes sectors, and where its bytes are. */
export interface Change extends BlockRequest {
  readonly place: Place;
}

/** Sectors: the first one, and how many. */
export type SectorRange = readonly [sector: number, sectors: number];

/** What a power cut left of a write; no ranges where it is lost, one where it is whole. */
export interface Fate {
  readonly change: Change;
  readonly kept: readonly SectorRange[];
}

/** Writes that are drawn one by one are torn this often. */
const TORN_RATIO = 0.2;
/** Writes of more sectors are torn in two places at most. */
const MAX_SCATTERED = 64;

/**
 * Decides what a power cut leaves of writes that are not durable.
 *
 * @param changes - In the order in which they came.
 */
export function fatesOf(
  changes: readonly Change[],
  { writeCache, sectorBytes }: z.output<typeof powerCutSchema>,
  random: Random,
): readonly Fate[] {
  switch (writeCache) {
    case "kept":
      return changes.map(whole);
    case "lost":
      return changes.map(lost);
    case "torn":
      return changes.map((change, index) =>
        index === changes.length - 1 ? torn(change, sectorBytes, random) : whole(change),
      );
    case "reordered":
      return changes.map((change) => {
        if (random() < 0.5) return lost(change);
        return random() < TORN_RATIO ? torn(change, sectorBytes, random) : whole(change);
      });
  }
}

export function whole(change: Change): Fate {
  return { change, kept: [[change.sector, change.sectors]] };
}

export function lost(change: Change): Fate {
  return { change, kept: [] };
}

export function isWhole({ change, kept }: Fate): boolean {
  return kept[0]?.[0] === change.sector && kept[0][1] === change.sectors;
}

/** A write of which some sectors are there and some are not; one that has a single sector is lost. */
function torn(change: Change, sectorBytes: number, random: Random): Fate {
  const sectorsEach = sectorBytes / SECTOR_BYTES;
  const first = Math.floor(change.sector / sectorsEach);
  const units = Math.ceil((change.sector + change.sectors) / sectorsEach) - first;
  if (units < 2) return lost(change);
  const cut = 1 + Math.floor(random() * (units - 1));
  const shape = random();
  const pattern = Array.from({ length: Math.min(units, MAX_SCATTERED) }, () => random() < 0.5);
  const isThere = (unit: number): boolean => {
    if (shape < 1 / 3) return unit < cut;
    if (shape < 2 / 3 || units > MAX_SCATTERED) return unit >= cut;
    // One is there and one is not, whatever the others are.
    if (unit === cut || unit === cut - 1) return unit === cut;
    return pattern[unit] === true;
  };
  const kept: [number, number][] = [];
  const end = change.sector + change.sectors;
  for (let unit = 0; unit < units; unit += 1) {
    if (!isThere(unit)) continue;
    const start = Math.max(change.sector, (first + unit) * sectorsEach);
    const stop = Math.min(end, (first + unit + 1) * sectorsEach);
    const last = kept.at(-1);
    if (last !== undefined && last[0] + last[1] === start) last[1] += stop - start;
    else kept.push([start, stop - start]);
  }
  return { change, kept };
}

/** Puts what is left of a write into a map of a disk. */
export function applyFate(map: SectorMap, { change, kept }: Fate): void {
  for (const [sector, sectors] of kept) {
    map.set(sector, sectors, change.place === ZERO ? ZERO : change.place + (sector - change.sector));
  }
}
