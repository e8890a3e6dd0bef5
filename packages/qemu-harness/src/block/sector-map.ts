/** Where the content of a sector is: in the journal at this number minus one, or one of the two below. */
export type Place = number;
/** as in what lies below */
export const BELOW: Place = 0;
/** nowhere: it is zero */
export const ZERO: Place = 0xffff_ffff;

const CHUNK_SECTORS = 128;

/** Place of a sector of the journal. */
export function placeOf(journalSector: number): Place {
  return journalSector + 1;
}

/** Which sectors of a disk were written, and where what was written is. Disks are sparse, and so is this. */
export class SectorMap {
  /** per 64 KiB that were touched, the places of all sectors, or one place that all of them have */
  readonly #chunks = new Map<number, Uint32Array | Place>();

  /** Says that `count` sectors from `sector` on are at `place` and behind it. */
  set(sector: number, count: number, place: Place): void {
    for (let at = sector; at < sector + count; ) {
      const index = Math.floor(at / CHUNK_SECTORS);
      const start = at - index * CHUNK_SECTORS;
      const stop = Math.min(CHUNK_SECTORS, start + sector + count - at);
      if (place === ZERO && stop - start === CHUNK_SECTORS) {
        this.#chunks.set(index, ZERO);
      } else {
        const places = this.#placesOf(index);
        if (place === ZERO) places.fill(ZERO, start, stop);
        else for (let each = start; each < stop; each += 1) places[each] = place + (at - sector) + (each - start);
      }
      at += stop - start;
    }
  }

  /** Place of one sector. */
  get(sector: number): Place {
    const chunk = this.#chunks.get(Math.floor(sector / CHUNK_SECTORS));
    return chunk instanceof Uint32Array ? (chunk[sector % CHUNK_SECTORS] ?? BELOW) : (chunk ?? BELOW);
  }

  /** Calls `visit` for ranges of sectors that lie behind each other, in order; together they are the whole range. */
  visit(sector: number, count: number, visit: (sector: number, count: number, place: Place) => void): void {
    const end = sector + count;
    let first = sector;
    let place = this.get(sector);
    for (let at = sector; at < end; ) {
      const index = Math.floor(at / CHUNK_SECTORS);
      const stop = Math.min(end, (index + 1) * CHUNK_SECTORS);
      const chunk = this.#chunks.get(index);
      // Most of a disk is untouched, and has no sector to look at.
      const step = chunk instanceof Uint32Array ? 1 : stop - at;
      for (; at < stop; at += step) {
        const next = chunk instanceof Uint32Array ? (chunk[at % CHUNK_SECTORS] ?? BELOW) : (chunk ?? BELOW);
        if (next === (isJournal(place) ? place + (at - first) : place)) continue;
        visit(first, at - first, place);
        first = at;
        place = next;
      }
    }
    visit(first, end - first, place);
  }

  /** The same map, to be changed apart from this one. */
  clone(): SectorMap {
    const copy = new SectorMap();
    for (const [index, chunk] of this.#chunks) {
      copy.#chunks.set(index, chunk instanceof Uint32Array ? chunk.slice() : chunk);
    }
    return copy;
  }

  #placesOf(index: number): Uint32Array {
    const chunk = this.#chunks.get(index);
    if (chunk instanceof Uint32Array) return chunk;
    const places = new Uint32Array(CHUNK_SECTORS).fill(chunk ?? BELOW);
    this.#chunks.set(index, places);
    return places;
  }
}

export function isJournal(place: Place): boolean {
  return place !== BELOW && place !== ZERO;
}
