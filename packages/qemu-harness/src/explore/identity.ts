import { createHash } from "node:crypto";
import type { Journal } from "../block/journal.ts";
import type { Ground } from "../block/layer.ts";
import { SECTOR_BYTES } from "../block/nbd-server.ts";
import { BELOW, type Place, type SectorMap, ZERO } from "../block/sector-map.ts";

/** Tells whether two states of a disk hold the same, without reading either as a whole. */
export class Identities {
  readonly #sectors: Uint32Array;
  readonly #journal: Journal;
  readonly #ground: Ground;
  /** numbers of contents, by digest */
  readonly #contents = new Map<string, number>();
  /** number of the content of a sector of the journal, by place */
  readonly #written = new Map<Place, number>();
  /** numbers of what the disk began as, in the order of the sectors */
  readonly #original: Uint32Array;

  private constructor(sectors: Uint32Array, journal: Journal, ground: Ground) {
    this.#sectors = sectors;
    this.#journal = journal;
    this.#ground = ground;
    this.#original = new Uint32Array(sectors.length);
  }

  /** @param sectors - All sectors in which states can differ, in order. */
  static async create(sectors: Uint32Array, journal: Journal, ground: Ground): Promise<Identities> {
    const identities = new Identities(sectors, journal, ground);
    const bytes = new Uint8Array(SECTOR_BYTES);
    for (const [index, sector] of sectors.entries()) {
      await identities.#ground.readInto(bytes, sector * SECTOR_BYTES);
      identities.#original[index] = identities.#numberOf(bytes);
    }
    return identities;
  }

  /** A digest of what a disk holds. */
  of(map: SectorMap): string {
    const numbers = new Uint32Array(this.#sectors.length);
    for (const [index, sector] of this.#sectors.entries()) {
      const place = map.get(sector);
      numbers[index] = place === BELOW ? (this.#original[index] ?? 0) : this.#numberAt(place);
    }
    return createHash("sha256").update(numbers).digest("hex");
  }

  #numberAt(place: Place): number {
    const known = this.#written.get(place);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(SECTOR_BYTES);
    if (place !== ZERO) this.#journal.readInto(bytes, place - 1);
    const number = this.#numberOf(bytes);
    this.#written.set(place, number);
    return number;
  }

  #numberOf(bytes: Uint8Array): number {
    const digest = createHash("sha1").update(bytes).digest("base64");
    const known = this.#contents.get(digest);
    if (known !== undefined) return known;
    const number = this.#contents.size;
    this.#contents.set(digest, number);
    return number;
  }
}
