import {
  COMPACT,
  COMPACT_INODE_SIZE,
  DATA_LAYOUTS,
  EXTENDED,
  EXTENDED_INODE_SIZE,
  FORMAT_EXTENDED,
  FORMAT_LAYOUT_SHIFT,
  INODE_FORMAT,
  INODE_MODE,
  INODE_XATTR_COUNT,
  MODE_BITS,
} from "../format/inode.ts";
import {
  COMPAT_MTIME,
  COMPAT_SB_CHKSUM,
  SUPERBLOCK,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "../format/superblock.ts";
import { XATTR_HEADER_SIZE, XATTR_UNIT } from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import { crc32c } from "../internal/crc32c.ts";
import type { DataLayout } from "../read/inode.ts";
import type { Node, Placement } from "./node.ts";

/** What an inode says, whatever its form. */
export interface InodeFields {
  /** the shorter form says everything */
  readonly isCompact: boolean;
  readonly layout: DataLayout;
  /** size of the xattr area in `bytes` */
  readonly xattrSize: number;
  /** type and permission bits */
  readonly mode: number;
  readonly links: number;
  /** size of the content in `bytes` */
  readonly size: number;
  /** the word that depends on the layout */
  readonly data: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: bigint;
  readonly mtimeNsec: number;
}

/** Length of an inode without what follows it, in `bytes`. */
export function inodeSize(isCompact: boolean): number {
  return isCompact ? COMPACT_INODE_SIZE : EXTENDED_INODE_SIZE;
}

/** Encodes an inode into zeros. */
export function encodeInodeFields(view: DataView, fields: InodeFields): void {
  const { isCompact, xattrSize } = fields;
  const layout = DATA_LAYOUTS.indexOf(fields.layout) << FORMAT_LAYOUT_SHIFT;
  view.setUint16(INODE_FORMAT, layout | (isCompact ? 0 : FORMAT_EXTENDED), true);
  view.setUint16(INODE_XATTR_COUNT, xattrSize === 0 ? 0 : 1 + (xattrSize - XATTR_HEADER_SIZE) / XATTR_UNIT, true);
  view.setUint16(INODE_MODE, fields.mode, true);
  if (isCompact) {
    view.setUint16(COMPACT.links, fields.links, true);
    view.setUint32(COMPACT.size, fields.size, true);
    view.setUint32(COMPACT.data, fields.data, true);
    view.setUint32(COMPACT.ino, fields.ino, true);
    view.setUint16(COMPACT.uid, fields.uid, true);
    view.setUint16(COMPACT.gid, fields.gid, true);
    return;
  }
  view.setBigUint64(EXTENDED.size, BigInt(fields.size), true);
  view.setUint32(EXTENDED.data, fields.data, true);
  view.setUint32(EXTENDED.ino, fields.ino, true);
  view.setUint32(EXTENDED.uid, fields.uid, true);
  view.setUint32(EXTENDED.gid, fields.gid, true);
  view.setBigUint64(EXTENDED.mtime, fields.mtime, true);
  view.setUint32(EXTENDED.mtimeNsec, fields.mtimeNsec, true);
  view.setUint32(EXTENDED.links, fields.links, true);
}

/** Encodes a node's inode. */
export function encodeInode(node: Node, isCompact: boolean, xattrSize: number): Uint8Array {
  const bytes = new Uint8Array(inodeSize(isCompact));
  const { links, size, ino, uid, gid, mtime, mtimeNsec, placement } = node;
  encodeInodeFields(viewOf(bytes), {
    isCompact,
    layout: placement.layout,
    xattrSize,
    mode: (MODE_BITS.get(node.type) ?? 0) | node.mode,
    links,
    size,
    data: node.device ?? dataWord(placement),
    ino,
    uid,
    gid,
    mtime,
    mtimeNsec,
  });
  return bytes;
}

/** The word of an inode that depends on the layout. */
function dataWord(placement: Placement): number {
  switch (placement.layout) {
    case "chunk":
      return placement.chunkBits;
    case "compressed-compact":
    case "compressed-full":
      return placement.map.extents.reduce((sum, { blocks }) => sum + blocks, 0);
    default:
      return placement.block;
  }
}

/** How contents of an image are compressed. */
export interface CompressionFields {
  /** algorithms by bit, where the image says which */
  readonly algorithms: number;
  /** records of the algorithms, behind the superblock */
  readonly records: Uint8Array;
}

/** What every superblock says. */
export interface SuperblockFields {
  readonly blockSize: number;
  readonly compat: number;
  readonly rootNid: number;
  readonly inodes: number;
  readonly buildTime: bigint;
  readonly buildTimeNsec: number;
  readonly blocks: number;
  readonly xattrBlock: number;
}

/** Encodes a superblock into zeros. */
export function encodeSuperblockFields(view: DataView, fields: SuperblockFields): void {
  view.setUint32(SUPERBLOCK.magic, SUPERBLOCK_MAGIC, true);
  view.setUint32(SUPERBLOCK.featureCompat, fields.compat, true);
  view.setUint8(SUPERBLOCK.blockSizeBits, Math.log2(fields.blockSize));
  view.setUint16(SUPERBLOCK.rootNid, fields.rootNid, true);
  view.setBigUint64(SUPERBLOCK.inodes, BigInt(fields.inodes), true);
  view.setBigUint64(SUPERBLOCK.epoch, fields.buildTime, true);
  view.setUint32(SUPERBLOCK.epochNsec, fields.buildTimeNsec, true);
  view.setUint32(SUPERBLOCK.blocks, fields.blocks, true);
  view.setUint32(SUPERBLOCK.xattrBlock, fields.xattrBlock, true);
}

/** What the head of an image says that was just written. */
export interface HeadFields extends SuperblockFields {
  readonly metaBlock: number;
  /** long prefixes of xattr names, and where they are in the image in `bytes` */
  readonly xattrPrefixes: { readonly count: number; readonly position: number };
  /** 16 bytes */
  readonly uuid: Uint8Array;
  /** at most 16 bytes */
  readonly volumeName: Uint8Array;
  readonly incompat: number;
  readonly compression?: CompressionFields | undefined;
}

/** Encodes everything before the first block of content, the superblock in it with its checksum. */
export function encodeHead(fields: HeadFields): Uint8Array {
  const { blockSize } = fields;
  const head = new Uint8Array(headSize(blockSize));
  const view = viewOf(head.subarray(SUPERBLOCK_OFFSET));
  // erofs-utils 1.8 crashes over checksums of smaller blocks, and writes none.
  const hasChecksum = blockSize > SUPERBLOCK_OFFSET;
  encodeSuperblockFields(view, {
    ...fields,
    compat: fields.compat | COMPAT_MTIME | (hasChecksum ? COMPAT_SB_CHKSUM : 0),
  });
  view.setUint8(SUPERBLOCK.xattrPrefixCount, fields.xattrPrefixes.count);
  view.setUint32(SUPERBLOCK.xattrPrefixStart, fields.xattrPrefixes.position / XATTR_UNIT, true);
  view.setUint32(SUPERBLOCK.metaBlock, fields.metaBlock, true);
  head.set(fields.uuid, SUPERBLOCK_OFFSET + SUPERBLOCK.uuid);
  head.set(fields.volumeName, SUPERBLOCK_OFFSET + SUPERBLOCK.volumeName);
  view.setUint32(SUPERBLOCK.featureIncompat, fields.incompat, true);
  const { compression } = fields;
  if (compression !== undefined) {
    view.setUint16(SUPERBLOCK.compressionAlgorithms, compression.algorithms, true);
    head.set(compression.records, SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE);
  }
  // The checksum covers the rest of the superblock's block, its own field being zero, which it is until now.
  if (hasChecksum) view.setUint32(SUPERBLOCK.checksum, crc32c(0xffffffff, head.subarray(SUPERBLOCK_OFFSET)), true);
  return head;
}

/** Bytes before the first block of content: up to the end of the superblock's block. */
export function headSize(blockSize: number): number {
  return blockSize > SUPERBLOCK_OFFSET ? blockSize : SUPERBLOCK_OFFSET + blockSize;
}
