import { COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE, INODE_SLOT_SIZE } from "../format/inode.ts";
import { nameBytes } from "../internal/names.js";
import type { BlockSpace } from "./block-space.ts";
import { indexSize } from "./compressed-index.ts";
import { encodeDirectory, type NamedNode } from "./directory.ts";
import { InodeArea, type InodeSize } from "./inode-area.ts";
import { keepInodes } from "./kept-inodes.ts";
import type { Child, DirectoryNode, Node, Placement } from "./node.ts";
import type { OldInode, OldPlaces } from "./old-places.ts";
import { badTree, childAt, isDirectory, maxTailOf } from "./tree.ts";
import { encodeNodeXattrs } from "./xattrs.ts";

/** A directory with the names in it in the order they are stored in. */
export interface OrderedDirectory {
  readonly node: DirectoryNode;
  readonly parent: DirectoryNode;
  readonly names: readonly NamedNode[];
}

/** Every node in the order of inodes. */
export interface Layout {
  readonly nodes: readonly Node[];
  readonly directories: readonly OrderedDirectory[];
  /** start of the inode area in `blocks` */
  readonly metaBlock: number;
}

/** What decides where inodes go. */
export interface LayoutOptions extends ImageTime {
  readonly blockSize: number;
  readonly space: BlockSpace;
  /** where they were in an older image */
  readonly old: OldPlaces | undefined;
}

/** What compact inodes cannot say for themselves. */
export interface ImageTime {
  readonly buildTime: bigint;
  readonly buildTimeNsec: number;
}

/** Resolves hard links, counts names, orders everything and gives every inode its place. */
export function layOut(root: DirectoryNode, options: LayoutOptions): Layout {
  const { blockSize, space, old } = options;
  const { nodes, directories } = order(root);
  for (const { node, parent, names } of directories) {
    // "." and ".." are names too, and sort among the others by their bytes.
    node.links += 1;
    parent.links += 1;
    const sizes = encodeDirectory(names, blockSize);
    node.size = sizes.byteLength;
    const tailSize = node.size % blockSize;
    node.placement =
      tailSize > 0 && tailSize <= maxTailOf(node, blockSize)
        ? { layout: "inline", block: 0, tail: sizes.subarray(node.size - tailSize) }
        : { layout: "plain", block: 0 };
  }
  const sizeOf = (node: Node): InodeSize => inodeSizeOf(node, blockSize, options);
  const olds = new Map<Node, OldInode>();
  for (const node of nodes) {
    const before = old?.takeInode(node.path);
    if (before !== undefined) olds.set(node, before);
  }
  const kept = old && keepInodes(olds, { places: old, blockSize, space, sizeOf });
  const area = kept ?? new InodeArea(blockSize, { end: 0 });
  const metaBlock = kept === undefined || old === undefined ? space.end : old.metaBlock;
  for (const node of nodes) {
    if (node.offset === 0) node.offset = area.place(sizeOf(node));
    node.nid = node.offset / INODE_SLOT_SIZE;
  }
  numberInodes(nodes, olds);
  space.takeAtEnd(metaBlock + Math.ceil(area.end / blockSize) - space.end);
  return { nodes: nodes.toSorted((a, b) => a.offset - b.offset), directories, metaBlock };
}

/** Gives nodes the numbers they had, and all others numbers that are not in use. */
function numberInodes(nodes: readonly Node[], olds: ReadonlyMap<Node, OldInode>): void {
  const used = new Set([0]);
  for (const [node, { ino }] of olds) {
    if (used.has(ino)) continue;
    used.add(ino);
    node.ino = ino;
  }
  let next = 1;
  for (const node of nodes) {
    if (node.ino !== 0) continue;
    while (used.has(next)) next += 1;
    node.ino = next;
    next += 1;
  }
}

/** What an inode takes. It stays inside one block, and so does what is inline behind it. */
function inodeSizeOf(node: Node, blockSize: number, time: ImageTime): InodeSize {
  const { placement } = node;
  const inodeSize = isCompact(node, time) ? COMPACT_INODE_SIZE : EXTENDED_INODE_SIZE;
  const area = inodeSize + encodeNodeXattrs(node).byteLength;
  const size = area + sizeBehind(placement, area, blockSize);
  const hasTail = "tail" in placement && placement.tail.byteLength > 0;
  return { size, together: hasTail ? size : inodeSize };
}

/** Bytes that follow an inode with its xattrs. */
function sizeBehind(placement: Placement, areaEnd: number, blockSize: number): number {
  switch (placement.layout) {
    case "plain":
      return 0;
    case "inline":
      return placement.tail.byteLength;
    case "chunk":
      return placement.blocks.byteLength;
    case "compressed-compact":
    case "compressed-full":
      return indexSize(areaEnd, placement, blockSize) + placement.tail.byteLength;
  }
}

/** Whether 32 bytes say everything there is to say about a node. */
export function isCompact(node: Node, { buildTime, buildTimeNsec }: ImageTime): boolean {
  return (
    node.uid <= 0xffff &&
    node.gid <= 0xffff &&
    node.links <= 0xffff &&
    node.size <= 0xffffffff &&
    node.mtime === buildTime &&
    node.mtimeNsec === buildTimeNsec
  );
}

/** Breadth first: what is in one directory lies together. */
function order(root: DirectoryNode): Pick<Layout, "nodes" | "directories"> {
  const nodes: Node[] = [root];
  const directories: OrderedDirectory[] = [];
  const seen = new Set<Node>(nodes);
  const queue = [{ node: root, parent: root }];
  for (const { node, parent } of queue) {
    const names = [...node.children].map(([name, child]) => ({
      bytes: nameBytes(name),
      node: resolve(root, child),
    }));
    const self = { bytes: nameBytes("."), node };
    const above = { bytes: nameBytes(".."), node: parent };
    const ordered = [...names, self, above].sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    directories.push({ node, parent, names: ordered });
    for (const one of ordered) {
      if (one === self || one === above) continue;
      one.node.links += 1;
      if (seen.has(one.node)) continue;
      seen.add(one.node);
      nodes.push(one.node);
      if (isDirectory(one.node)) queue.push({ node: one.node, parent: node });
    }
  }
  return { nodes, directories };
}

/** Follows hard links to the node they are a name of. */
function resolve(root: DirectoryNode, from: Child): Node {
  const passed = new Set<Child>();
  let child = from;
  while (child.type === "link") {
    if (passed.has(child)) throw badTree(from.path, "expected a hard link to a node, got a circle of links");
    passed.add(child);
    const { target } = child;
    const found = childAt(root, target);
    if (found === undefined) throw badTree(from.path, `expected a hard link to a node, got no ${target}`);
    if (isDirectory(found)) throw badTree(from.path, `expected a hard link to a file, got the directory ${target}`);
    child = found;
  }
  return child;
}
