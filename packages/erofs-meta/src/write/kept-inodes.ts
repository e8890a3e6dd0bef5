import { INODE_SLOT_SIZE } from "../format/inode.ts";
import type { BlockSpace } from "./block-space.ts";
import { FreeRanges } from "./free-ranges.ts";
import { InodeArea, type InodeSize } from "./inode-area.ts";
import type { Node } from "./node.ts";
import type { OldInode, OldPlaces } from "./old-places.ts";

/** The number of the root directory's node has 16 bits. */
const MAX_ROOT_OFFSET = 0xffff * INODE_SLOT_SIZE;

/** The name of a directory, and the one in itself. */
const EMPTY_DIRECTORY_LINKS = 2;

interface Candidate {
  readonly node: Node;
  readonly old: OldInode;
  readonly offset: number;
}

/** What is known of inodes of an older image. */
export interface KeepOptions {
  readonly places: OldPlaces;
  readonly blockSize: number;
  readonly space: BlockSpace;
  /** what an inode takes, as its node is placed now */
  readonly sizeOf: (node: Node) => InodeSize;
}

/**
 * Puts inodes where they were in an older image, as far as they fit there.
 *
 * @param olds - Where they were. The root is the first of them.
 * @returns The area with what is free in it; nothing when the root does not fit, and everything has to move.
 */
export function keepInodes(olds: ReadonlyMap<Node, OldInode>, options: KeepOptions): InodeArea | undefined {
  const { places, blockSize, space } = options;
  const { metaBlock } = places;
  const candidates: Candidate[] = [];
  for (const [node, old] of olds) {
    // Where a node with the number 0 was, nothing is put again.
    if (old.offset !== undefined && old.offset > 0) candidates.push({ node, old, offset: old.offset });
  }
  candidates.sort((a, b) => a.offset - b.offset);
  const gaps: { readonly start: number; readonly end: number }[] = [];
  let next = 0;
  for (const run of places.inodeRuns) {
    let from = (run.block - metaBlock) * blockSize;
    const regionEnd = from + run.count * blockSize;
    for (let one = candidates[next]; one !== undefined && one.offset < regionEnd; one = candidates[next]) {
      next += 1;
      const room = Math.min(regionEnd, candidates[next]?.offset ?? regionEnd) - one.offset;
      const size = one.offset < from ? undefined : fittingSize(one, room, options);
      if (size === undefined) continue;
      one.node.offset = one.offset;
      gaps.push({ start: from, end: one.offset });
      from = one.offset + Math.ceil(size / INODE_SLOT_SIZE) * INODE_SLOT_SIZE;
    }
    gaps.push({ start: from, end: regionEnd });
  }
  const [root] = olds.keys();
  if (root === undefined || root.offset === 0 || root.offset > MAX_ROOT_OFFSET) {
    for (const { node } of candidates) node.offset = 0;
    return undefined;
  }
  const free = new FreeRanges();
  // What is added last is taken first.
  for (const gap of gaps.reverse()) free.add(gap.start / INODE_SLOT_SIZE, gap.end / INODE_SLOT_SIZE);
  const takeBlocks = (count: number): number | undefined => {
    const block = space.takeFrom(metaBlock, count);
    return block === undefined ? undefined : block - metaBlock;
  };
  return new InodeArea(blockSize, { end: (space.end - metaBlock) * blockSize, takeBlocks }, free);
}

/**
 * What a node takes at its old place, if there is so much room. A directory with a new number would change all
 * directories in it, and the root can't have just any: rather than that, the end of their names gets a block.
 */
function fittingSize({ node, old, offset }: Candidate, room: number, options: KeepOptions): number | undefined {
  const { blockSize, sizeOf } = options;
  const inline = node.children !== undefined && node.placement.layout === "inline" ? node.placement : undefined;
  // A block that it has got it keeps, whatever room there is now.
  if (inline !== undefined && old.isPlain) node.placement = { layout: "plain", block: 0 };
  const fits = ({ size, together }: InodeSize): boolean => size <= room && (offset % blockSize) + together <= blockSize;
  const wanted = sizeOf(node);
  if (fits(wanted)) return wanted.size;
  const hasDirectories = node.links > EMPTY_DIRECTORY_LINKS;
  if (inline === undefined || !(hasDirectories || node.path === "/")) return undefined;
  node.placement = { layout: "plain", block: 0 };
  const least = sizeOf(node);
  if (fits(least)) return least.size;
  node.placement = inline;
  return undefined;
}
