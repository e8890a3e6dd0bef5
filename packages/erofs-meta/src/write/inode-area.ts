import { INODE_SLOT_SIZE } from "../format/inode.ts";
import { FreeRanges } from "./free-ranges.ts";

/** Room that an inode takes with what lies behind it, in `bytes`. */
export interface InodeSize {
  readonly size: number;
  /** how much of it, from the start, has to be in one block */
  readonly together: number;
}

/** Gives inodes their places: in gaps between others where there is room, and behind all others. */
export class InodeArea {
  readonly #blockSize: number;
  readonly #gaps: FreeRanges;
  #end: number;

  /**
   * @param end - Where inodes can go that fit nowhere else, from the start of the area in `bytes`.
   * @param gaps - Where nothing is, in units of slots.
   */
  constructor(blockSize: number, end: number, gaps = new FreeRanges()) {
    this.#blockSize = blockSize;
    this.#end = end;
    this.#gaps = gaps;
  }

  /** Behind all inodes, from the start of the area in `bytes`. */
  get end(): number {
    return this.#end;
  }

  /** Takes room, and returns where it is, from the start of the area in `bytes`. */
  place({ size, together }: InodeSize): number {
    const slots = Math.ceil(size / INODE_SLOT_SIZE);
    const gap = this.#gaps.take(slots, (slot) => this.#align(slot * INODE_SLOT_SIZE, together) / INODE_SLOT_SIZE);
    if (gap !== undefined) return gap * INODE_SLOT_SIZE;
    const offset = this.#align(this.#end, together);
    this.#end = offset + slots * INODE_SLOT_SIZE;
    return offset;
  }

  /** The first place from here on where `together` bytes are inside one block. */
  #align(offset: number, together: number): number {
    const blockSize = this.#blockSize;
    return (offset % blockSize) + together <= blockSize ? offset : Math.ceil(offset / blockSize) * blockSize;
  }
}
