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
  MODE_TYPES,
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
import type { Node, Placement } from "./node.ts";

const MODE_OF = new Map([...MODE_TYPES].map(([bits, type]) => [type, bits]));

/** Encodes an inode in the shorter form where that says everything. */
export function encodeInode(node: Node, compact: boolean, xattrSize: number): Uint8Array {
  const bytes = new Uint8Array(compact ? COMPACT_INODE_SIZE : EXTENDED_INODE_SIZE);
  const view = viewOf(bytes);
  const layout = DATA_LAYOUTS.indexOf(node.placement.layout) << FORMAT_LAYOUT_SHIFT;
  view.setUint16(INODE_FORMAT, layout | (compact ? 0 : FORMAT_EXTENDED), true);
  view.setUint16(INODE_XATTR_COUNT, xattrSize === 0 ? 0 : 1 + (xattrSize - XATTR_HEADER_SIZE) / XATTR_UNIT, true);
  view.setUint16(INODE_MODE, (MODE_OF.get(node.type) ?? 0) | node.mode, true);
  const data = node.device ?? dataWord(node.placement);
  if (compact) {
    view.setUint16(COMPACT.links, node.links, true);
    view.setUint32(COMPACT.size, node.size, true);
    view.setUint32(COMPACT.data, data, true);
    view.setUint32(COMPACT.ino, node.ino, true);
    view.setUint16(COMPACT.uid, node.uid, true);
    view.setUint16(COMPACT.gid, node.gid, true);
  } else {
    view.setBigUint64(EXTENDED.size, BigInt(node.size), true);
    view.setUint32(EXTENDED.data, data, true);
    view.setUint32(EXTENDED.ino, node.ino, true);
    view.setUint32(EXTENDED.uid, node.uid, true);
    view.setUint32(EXTENDED.gid, node.gid, true);
    view.setBigUint64(EXTENDED.mtime, node.mtime, true);
    view.setUint32(EXTENDED.mtimeNsec, node.mtimeNsec, true);
    view.setUint32(EXTENDED.links, node.links, true);
  }
  return bytes;
}

/** The word of an inode that depends on the layout. */
function dataWord(placement: Placement): number {
  switch (placement.layout) {
    case "chunk":
      return placement.chunkBits;
    case "compressed-compact":
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

/** What a superblock says of an image that was just written. */
export interface SuperblockFields {
  readonly blockSize: number;
  readonly rootNid: number;
  readonly inodes: number;
  readonly buildTime: bigint;
  readonly buildTimeNsec: number;
  readonly blocks: number;
  readonly metaBlock: number;
  readonly xattrBlock: number;
  /** 16 bytes */
  readonly uuid: Uint8Array;
  /** at most 16 bytes */
  readonly volumeName: Uint8Array;
  readonly incompat: number;
  readonly compression?: CompressionFields | undefined;
}

/** Encodes everything before the first block of content, the superblock in it with its checksum. */
export function encodeHead(fields: SuperblockFields): Uint8Array {
  const { blockSize } = fields;
  const head = new Uint8Array(headSize(blockSize));
  const view = viewOf(head.subarray(SUPERBLOCK_OFFSET));
  view.setUint32(SUPERBLOCK.magic, SUPERBLOCK_MAGIC, true);
  // erofs-utils 1.8 crashes over checksums of smaller blocks, and writes none.
  const hasChecksum = blockSize > SUPERBLOCK_OFFSET;
  view.setUint32(SUPERBLOCK.featureCompat, COMPAT_MTIME | (hasChecksum ? COMPAT_SB_CHKSUM : 0), true);
  view.setUint8(SUPERBLOCK.blockSizeBits, Math.log2(blockSize));
  view.setUint16(SUPERBLOCK.rootNid, fields.rootNid, true);
  view.setBigUint64(SUPERBLOCK.inodes, BigInt(fields.inodes), true);
  view.setBigUint64(SUPERBLOCK.buildTime, fields.buildTime, true);
  view.setUint32(SUPERBLOCK.buildTimeNsec, fields.buildTimeNsec, true);
  view.setUint32(SUPERBLOCK.blocks, fields.blocks, true);
  view.setUint32(SUPERBLOCK.metaBlock, fields.metaBlock, true);
  view.setUint32(SUPERBLOCK.xattrBlock, fields.xattrBlock, true);
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
