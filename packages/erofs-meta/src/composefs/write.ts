import {
  COMPOSEFS_BLOCK_SIZE,
  COMPOSEFS_FLAG_HAS_ACL,
  COMPOSEFS_HEADER,
  COMPOSEFS_HEADER_VERSION,
  COMPOSEFS_MAGIC,
} from "../format/composefs.ts";
import { DIRENT, DIRENT_SIZE, DIRENT_TYPES } from "../format/directory.ts";
import {
  CHUNK_MAP_ENTRY_SIZE,
  COMPACT,
  DATA_LAYOUTS,
  EXTENDED,
  FORMAT_EXTENDED,
  FORMAT_LAYOUT_SHIFT,
  INODE_FORMAT,
  INODE_MODE,
  INODE_SLOT_SIZE,
  INODE_XATTR_COUNT,
  NULL_BLOCK,
} from "../format/inode.ts";
import {
  COMPAT_MTIME,
  COMPAT_XATTR_FILTER,
  SUPERBLOCK,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
} from "../format/superblock.ts";
import { XATTR_HEADER, XATTR_HEADER_SIZE, XATTR_UNIT } from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import { chunksOf } from "./chunks.ts";
import type { ComposefsEntry } from "./entry.ts";
import { breadthFirst, type ComposefsLayout, directoryBlocks, layOut, type PlacedNode } from "./layout.ts";
import { type Child, makeTree, typeOf } from "./tree.ts";
import { encodeEntry, nameFilter, SharedXattrs } from "./xattrs.ts";

/** modification times, and name filters of extended attributes */
const FEATURES = COMPAT_MTIME | COMPAT_XATTR_FILTER;

/**
 * Makes a metadata-only image, byte for byte as `mkcomposefs --from-file` does: an EROFS image whose regular files have
 * no data but say where it lies and what its fs-verity digest is, for overlayfs to mount above a directory of objects.
 *
 * @param entries - Nodes and hard links; a directory comes before what is in it.
 * @returns The image; {@link fsVerityDigest} of it is what a kernel command line or a signature vouches for.
 * @throws {ErofsError} `EROFS_BAD_TREE` for entries that make no tree, `EROFS_NOT_REPRESENTABLE` for what no image holds.
 * @see composefs 1.0.8; Linux v6.12 `Documentation/filesystems/overlayfs.rst`, "Metadata only copy up"
 * @example
 * const image = encodeComposefs(parseComposefsDump(await readFile("os.dump")));
 */
export function encodeComposefs(entries: Iterable<ComposefsEntry>): Uint8Array {
  const { root, version } = makeTree(entries);
  const nodes = breadthFirst(root);
  const shared = new SharedXattrs(nodes);
  const layout = layOut(nodes, shared);
  const dataStart = Math.ceil((layout.inodesEnd + shared.bytes.byteLength) / COMPOSEFS_BLOCK_SIZE);
  const dataBlocks = layout.nodes.reduce((sum, { blocks }) => sum + blocks, 0);
  const image = new Uint8Array((dataStart + dataBlocks) * COMPOSEFS_BLOCK_SIZE);

  const hasAcl = nodes.some(
    ({ xattrs }) => xattrs.has("system.posix_acl_access") || xattrs.has("system.posix_acl_default"),
  );
  const header = viewOf(image);
  header.setUint32(COMPOSEFS_HEADER.magic, COMPOSEFS_MAGIC, true);
  header.setUint32(COMPOSEFS_HEADER.version, COMPOSEFS_HEADER_VERSION, true);
  header.setUint32(COMPOSEFS_HEADER.flags, hasAcl ? COMPOSEFS_FLAG_HAS_ACL : 0, true);
  header.setUint32(COMPOSEFS_HEADER.composefsVersion, version, true);
  encodeSuperblock(image, layout, dataStart + dataBlocks);

  let block = dataStart;
  for (const place of layout.nodes) {
    encodeInode(image, place, layout, shared, block);
    encodeBlocks(image, place, layout, block);
    block += place.blocks;
  }
  image.set(shared.bytes, layout.inodesEnd);
  return image;
}

function encodeSuperblock(image: Uint8Array, layout: ComposefsLayout, blocks: number): void {
  const view = viewOf(image.subarray(SUPERBLOCK_OFFSET));
  const [root] = layout.nodes;
  view.setUint32(SUPERBLOCK.magic, SUPERBLOCK_MAGIC, true);
  view.setUint32(SUPERBLOCK.featureCompat, FEATURES, true);
  view.setUint8(SUPERBLOCK.blockSizeBits, Math.log2(COMPOSEFS_BLOCK_SIZE));
  view.setUint16(SUPERBLOCK.rootNid, (root?.offset ?? 0) / INODE_SLOT_SIZE, true);
  view.setBigUint64(SUPERBLOCK.inodes, BigInt(layout.nodes.length), true);
  view.setBigUint64(SUPERBLOCK.buildTime, layout.time.mtime, true);
  view.setUint32(SUPERBLOCK.buildTimeNsec, layout.time.mtimeNsec, true);
  view.setUint32(SUPERBLOCK.blocks, blocks, true);
  view.setUint32(SUPERBLOCK.xattrBlock, Math.floor(layout.inodesEnd / COMPOSEFS_BLOCK_SIZE), true);
}

function encodeInode(
  image: Uint8Array,
  place: PlacedNode,
  layout: ComposefsLayout,
  shared: SharedXattrs,
  block: number,
): void {
  const { node, offset, headSize, xattrSize, tailSize, blocks, isCompact, number } = place;
  const view = viewOf(image.subarray(offset));
  const type = typeOf(node);
  const isMap = type === "file" && node.sizeBytes > 0 && node.data === undefined;
  const dataLayout = DATA_LAYOUTS.indexOf(isMap ? "chunk" : tailSize > 0 ? "inline" : "plain");
  view.setUint16(INODE_FORMAT, (dataLayout << FORMAT_LAYOUT_SHIFT) | (isCompact ? 0 : FORMAT_EXTENDED), true);
  view.setUint16(INODE_XATTR_COUNT, xattrSize === 0 ? 0 : (xattrSize - XATTR_HEADER_SIZE) / XATTR_UNIT + 1, true);
  view.setUint16(INODE_MODE, node.mode, true);
  const size = type === "directory" ? blocks * COMPOSEFS_BLOCK_SIZE + tailSize : node.sizeBytes;
  const fields = isCompact ? COMPACT : EXTENDED;
  view.setUint32(fields.data, dataField(place, isMap, block), true);
  view.setUint32(fields.ino, number, true);
  if (isCompact) {
    view.setUint16(COMPACT.links, node.links, true);
    view.setUint32(COMPACT.size, size, true);
    view.setUint16(COMPACT.uid, node.uid, true);
    view.setUint16(COMPACT.gid, node.gid, true);
  } else {
    view.setBigUint64(EXTENDED.size, BigInt(size), true);
    view.setUint32(EXTENDED.uid, node.uid, true);
    view.setUint32(EXTENDED.gid, node.gid, true);
    view.setBigUint64(EXTENDED.mtime, node.mtime, true);
    view.setUint32(EXTENDED.mtimeNsec, node.mtimeNsec, true);
    view.setUint32(EXTENDED.links, node.links, true);
  }
  if (xattrSize > 0)
    encodeXattrs(image.subarray(offset + headSize - xattrSize, offset + headSize), place, layout, shared);
  if (tailSize > 0) image.set(tailOf(place, layout), offset + headSize);
}

/** `i_u`: the first block, the device number, or how a map is cut. */
function dataField({ node, blocks }: PlacedNode, isMap: boolean, block: number): number {
  if (isMap) return chunksOf(node.sizeBytes).bits - Math.log2(COMPOSEFS_BLOCK_SIZE);
  const type = typeOf(node);
  if (type === "char" || type === "block") return node.device;
  return blocks > 0 ? block : 0;
}

function encodeXattrs(area: Uint8Array, { node }: PlacedNode, layout: ComposefsLayout, shared: SharedXattrs): void {
  const { ids, own } = shared.of(node);
  const view = viewOf(area);
  view.setUint32(XATTR_HEADER.nameFilter, nameFilter(node), true);
  view.setUint8(XATTR_HEADER.sharedCount, ids.length);
  let at = XATTR_HEADER_SIZE;
  for (const id of ids) {
    view.setUint32(at, ((layout.inodesEnd % COMPOSEFS_BLOCK_SIZE) + id) / XATTR_UNIT, true);
    at += XATTR_UNIT;
  }
  for (const xattr of own) {
    const entry = encodeEntry(xattr);
    area.set(entry, at);
    at += entry.byteLength;
  }
}

function tailOf({ node, tailSize, blocks }: PlacedNode, layout: ComposefsLayout): Uint8Array {
  if (typeOf(node) === "directory") return encodeNames(directoryBlocks(node.children).at(-1) ?? [], layout);
  if (node.data !== undefined) return node.data.subarray(blocks * COMPOSEFS_BLOCK_SIZE);
  // A file without data: every chunk is a hole.
  return new Uint8Array(new Uint32Array(tailSize / CHUNK_MAP_ENTRY_SIZE).fill(NULL_BLOCK).buffer);
}

function encodeBlocks(image: Uint8Array, { node, blocks }: PlacedNode, layout: ComposefsLayout, block: number): void {
  if (blocks === 0) return;
  const start = block * COMPOSEFS_BLOCK_SIZE;
  const type = typeOf(node);
  if (type === "directory") {
    for (const [index, names] of directoryBlocks(node.children).slice(0, blocks).entries()) {
      image.set(encodeNames(names, layout), start + index * COMPOSEFS_BLOCK_SIZE);
    }
  } else if (node.data !== undefined) image.set(node.data.subarray(0, blocks * COMPOSEFS_BLOCK_SIZE), start);
  else image.fill(0xff, start, start + COMPOSEFS_BLOCK_SIZE);
}

function encodeNames(children: readonly Child[], layout: ComposefsLayout): Uint8Array {
  const bytes = new Uint8Array(children.reduce((sum, { name }) => sum + DIRENT_SIZE + name.byteLength, 0));
  const view = viewOf(bytes);
  let nameOffset = children.length * DIRENT_SIZE;
  for (const [index, { name, node }] of children.entries()) {
    const at = index * DIRENT_SIZE;
    view.setBigUint64(at + DIRENT.nid, BigInt((layout.placeOf.get(node)?.offset ?? 0) / INODE_SLOT_SIZE), true);
    view.setUint16(at + DIRENT.nameOffset, nameOffset, true);
    view.setUint8(at + DIRENT.fileType, DIRENT_TYPES.indexOf(typeOf(node)));
    bytes.set(name, nameOffset);
    nameOffset += name.byteLength;
  }
  return bytes;
}
