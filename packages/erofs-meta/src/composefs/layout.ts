import { COMPOSEFS_BLOCK_SIZE } from "../format/composefs.ts";
import { CHUNK_MAP_ENTRY_SIZE, INODE_SLOT_SIZE } from "../format/inode.ts";
import { SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from "../format/superblock.ts";
import { groupNames } from "../write/directory.ts";
import { inodeSize } from "../write/encode.ts";
import { type XattrArea, xattrAreaSize } from "../write/xattr-area.ts";
import { chunksOf } from "./chunks.ts";
import { type Node, typeOf } from "./tree.ts";
import type { SharedXattrs } from "./xattrs.ts";

const HALF_BLOCK = COMPOSEFS_BLOCK_SIZE / 2;

/** A node with its place in the image. */
export interface PlacedNode {
  readonly node: Node;
  /** number of the node in the order in which nodes are written */
  readonly number: number;
  readonly isCompact: boolean;
  /** first byte of the inode */
  readonly offset: number;
  /** length of inode and extended attributes in `bytes` */
  readonly headSize: number;
  readonly xattrs: XattrArea | undefined;
  readonly xattrSize: number;
  /** what follows the inode in its block, in `bytes` */
  readonly tailSize: number;
  /** whole blocks behind the metadata */
  readonly blocks: number;
}

/** Where everything lies. */
export interface ComposefsLayout {
  readonly nodes: readonly PlacedNode[];
  /** by node, for what names it */
  readonly placeOf: ReadonlyMap<Node, PlacedNode>;
  /** where inodes end and shared attributes begin */
  readonly inodesEnd: number;
  /** least of all modification times, which the superblock has */
  readonly time: { readonly mtime: bigint; readonly mtimeNsec: number };
}

/** Nodes in the order in which they are written: breadth first, by name. */
export function breadthFirst(root: Node): Node[] {
  const nodes = [root];
  for (const node of nodes) {
    for (const child of node.children) if (!child.isLink) nodes.push(child.node);
  }
  return nodes;
}

/** Finds a place for every node. */
export function layOut(nodes: readonly Node[], shared: SharedXattrs): ComposefsLayout {
  const time = nodes.reduce<ComposefsLayout["time"]>(
    (least, { mtime, mtimeNsec }) =>
      mtime < least.mtime || (mtime === least.mtime && mtimeNsec < least.mtimeNsec) ? { mtime, mtimeNsec } : least,
    { mtime: nodes[0]?.mtime ?? 0n, mtimeNsec: nodes[0]?.mtimeNsec ?? 0 },
  );
  const placed: PlacedNode[] = [];
  let position = SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE;
  for (const [number, node] of nodes.entries()) {
    const size = dataSize(node);
    const isCompact = fitsCompact(node, size, time);
    const xattrs = shared.of(node);
    const xattrSize = xattrs === undefined ? 0 : xattrAreaSize(xattrs);
    const headSize = inodeSize(isCompact) + xattrSize;
    position = roundUp(position, INODE_SLOT_SIZE);
    const place = isLink(node) ? placeLink(position, headSize, size) : placeTail(position, headSize, size);
    placed.push({ node, number, isCompact, headSize, xattrs, xattrSize, ...place });
    position = place.offset + headSize + place.tailSize;
  }
  const placeOf = new Map(placed.map((place) => [place.node, place]));
  return { nodes: placed, placeOf, inodesEnd: roundUp(position, INODE_SLOT_SIZE), time };
}

interface DataSize {
  readonly blocks: number;
  readonly tailSize: number;
}

interface Place extends DataSize {
  readonly offset: number;
}

function dataSize(node: Node): DataSize {
  if (node.children.length > 0) {
    const groups = groupNames(
      node.children.map(({ name }) => ({ bytes: name })),
      COMPOSEFS_BLOCK_SIZE,
    );
    const tailSize = groups.at(-1)?.size ?? 0;
    // More than half a block is not worth the trouble.
    return tailSize > HALF_BLOCK ? { blocks: groups.length, tailSize: 0 } : { blocks: groups.length - 1, tailSize };
  }
  if (isLink(node)) return { blocks: 0, tailSize: node.sizeBytes };
  if (node.data !== undefined) {
    const blocks = Math.floor(node.sizeBytes / COMPOSEFS_BLOCK_SIZE);
    const tailSize = node.sizeBytes % COMPOSEFS_BLOCK_SIZE;
    return tailSize > HALF_BLOCK ? { blocks: blocks + 1, tailSize: 0 } : { blocks, tailSize };
  }
  const tailSize = node.sizeBytes === 0 ? 0 : chunksOf(node.sizeBytes).count * CHUNK_MAP_ENTRY_SIZE;
  return { blocks: 0, tailSize };
}

function fitsCompact(node: Node, { blocks, tailSize }: DataSize, time: ComposefsLayout["time"]): boolean {
  const size = node.children.length > 0 ? blocks * COMPOSEFS_BLOCK_SIZE + tailSize : node.sizeBytes;
  const isSameTime = node.mtime === time.mtime && node.mtimeNsec === time.mtimeNsec;
  return isSameTime && Math.max(node.links, node.uid, node.gid) <= 0xffff && size <= 0xffff_ffff;
}

/** A link's target is to lie in one block with its inode; one that is too long goes behind the metadata. */
function placeLink(position: number, headSize: number, { tailSize }: DataSize): Place {
  const total = headSize + tailSize;
  const isTooLong = total >= COMPOSEFS_BLOCK_SIZE;
  const crosses = blockOf(position) !== blockOf(position + total - 1);
  const offset = crosses ? roundUp(position, COMPOSEFS_BLOCK_SIZE) : position;
  return isTooLong ? { offset, blocks: 1, tailSize: 0 } : { offset, blocks: 0, tailSize };
}

/** What follows an inode must not cross the border of a block; the inode itself may. */
function placeTail(position: number, headSize: number, { blocks, tailSize }: DataSize): Place {
  const room = (start: number): number => COMPOSEFS_BLOCK_SIZE - ((start + headSize) % COMPOSEFS_BLOCK_SIZE);
  if (room(position) >= tailSize) return { offset: position, blocks, tailSize };
  const moved = position + roundUp(room(position), INODE_SLOT_SIZE);
  if (tailSize <= room(moved)) return { offset: moved, blocks, tailSize };
  return { offset: roundUp(position, COMPOSEFS_BLOCK_SIZE), blocks: blocks + 1, tailSize: 0 };
}

function isLink(node: Node): boolean {
  return typeOf(node) === "symlink";
}

function blockOf(offset: number): number {
  return Math.floor(offset / COMPOSEFS_BLOCK_SIZE);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
