import { INODE_SLOT_SIZE } from "../format/inode.ts";
import { FreeRanges } from "./free-ranges.ts";

/** The area starts with an unused slot or two: programs do not show a name whose node has the number 0. */
const FIRST_OFFSET = 2 * INODE_SLOT_SIZE;

/** Room that an inode takes with what lies behind it, in `bytes`. */
export interface InodeSize {
  readonly size: number;
  /** how much of it, from the start, has to be in one block */
  readonly together: number;
}

/** Where inodes can go that fit nowhere else. */
export interface MoreRoom {
  /** behind everything, from the start of the area in `bytes` */
  readonly end: number;
  /** Takes blocks from elsewhere, if there are any, and returns where they are from the start of the area. */
  takeBlocks?(count: number): number | undefined;
}

/** Gives inodes their places: in gaps between others where there is room, and behind all others. */
export class InodeArea {
  readonly #blockSize: number;
  readonly #more: MoreRoom;
  readonly #gaps: FreeRanges;
  #end: number;

  /** @param gaps - where nothing is, in units of slots */
  constructor(blockSize: number, more: MoreRoom, gaps = new FreeRanges()) {
    this.#blockSize = blockSize;
    this.#more = more;
    this.#gaps = gaps;
    this.#end = more.end;
  }

  /** Behind all inodes, from the start of the area in `bytes`. */
  get end(): number {
    return this.#end;
  }

  /** Takes room, and returns where it is, from the start of the area in `bytes`. */
  place({ size, together }: InodeSize): number {
    const slots = Math.ceil(size / INODE_SLOT_SIZE);
    const gap = this.#takeGap(slots, together) ?? this.#takeBlocks(slots, together);
    if (gap !== undefined) return gap * INODE_SLOT_SIZE;
    const offset = this.#align(this.#end, together);
    this.#end = offset + slots * INODE_SLOT_SIZE;
    return offset;
  }

  #takeGap(slots: number, together: number): number | undefined {
    return this.#gaps.take(slots, (slot) => this.#align(slot * INODE_SLOT_SIZE, together) / INODE_SLOT_SIZE);
  }

  #takeBlocks(slots: number, together: number): number | undefined {
    const perBlock = this.#blockSize / INODE_SLOT_SIZE;
    const count = Math.ceil(slots / perBlock);
    const block = this.#more.takeBlocks?.(count);
    if (block === undefined) return undefined;
    this.#gaps.add(block * perBlock, (block + count) * perBlock);
    return this.#takeGap(slots, together);
  }

  /** The first place from here on where `together` bytes are inside one block. */
  #align(from: number, together: number): number {
    const blockSize = this.#blockSize;
    const offset = Math.max(from, FIRST_OFFSET);
    return (offset % blockSize) + together <= blockSize ? offset : Math.ceil(offset / blockSize) * blockSize;
  }
}
