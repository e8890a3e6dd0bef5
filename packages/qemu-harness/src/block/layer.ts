import type { BlockSource } from "@leveret/disk-image";
import type { Journal } from "./journal.ts";
import { SECTOR_BYTES } from "./nbd-server.ts";
import { isJournal, type SectorMap, ZERO } from "./sector-map.ts";

/** What a layer lies on. Reads whole sectors; without a promise where the bytes are at hand. */
export interface Ground {
  readonly sizeBytes: number;
  readonly readInto: (target: Uint8Array, offset: number) => Promise<void> | undefined;
}

/** What was written on something that is only read. */
export class Layer implements Ground {
  readonly #map: SectorMap;
  readonly #journal: Journal;
  readonly #ground: Ground;

  constructor(map: SectorMap, journal: Journal, ground: Ground) {
    this.#map = map;
    this.#journal = journal;
    this.#ground = ground;
  }

  get sizeBytes(): number {
    return this.#ground.sizeBytes;
  }

  readInto(target: Uint8Array, offset: number): Promise<void> | undefined {
    const waits: Promise<void>[] = [];
    this.#map.visit(offset / SECTOR_BYTES, target.length / SECTOR_BYTES, (sector, count, place) => {
      const start = sector * SECTOR_BYTES - offset;
      const part = target.subarray(start, start + count * SECTOR_BYTES);
      if (place === ZERO) part.fill(0);
      else if (isJournal(place)) this.#journal.readInto(part, place - 1);
      else {
        const wait = this.#ground.readInto(part, sector * SECTOR_BYTES);
        if (wait !== undefined) waits.push(wait);
      }
    });
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => {});
  }
}

/** A disk of zeros. */
export function emptyGround(sizeBytes: number): Ground {
  return {
    sizeBytes,
    readInto(target) {
      target.fill(0);
      return undefined;
    },
  };
}

/** An image as a disk: a last sector that is not whole ends with zeros. */
export function imageGround(source: BlockSource): Ground {
  return {
    sizeBytes: Math.ceil(source.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES,
    readInto(target, offset) {
      const part = target.subarray(0, Math.max(0, source.sizeBytes - offset));
      target.fill(0, part.length);
      if (part.length === 0) return undefined;
      if (source.readIntoSync !== undefined) {
        source.readIntoSync(part, offset);
        return undefined;
      }
      return source.readInto?.(part, offset) ?? source.read(offset, part.length).then((bytes) => part.set(bytes));
    },
  };
}
