import { ErofsError } from "../errors.ts";
import {
  COMPACT,
  COMPACT_INODE_SIZE,
  DATA_LAYOUTS,
  EXTENDED,
  EXTENDED_INODE_SIZE,
  FORMAT_EXTENDED,
  FORMAT_KNOWN,
  FORMAT_LAYOUT_MASK,
  FORMAT_LAYOUT_SHIFT,
  FORMAT_ONE_LINK,
  INODE_BLOCK_HIGH,
  INODE_FORMAT,
  INODE_MODE,
  INODE_SLOT_SIZE,
  INODE_XATTR_COUNT,
  MODE_TYPE_MASK,
  MODE_TYPES,
  NID_IN_METABOX,
  NULL_BLOCK,
  WIDE_NULL_BLOCK,
} from "../format/inode.ts";
import { XATTR_HEADER_SIZE, XATTR_UNIT } from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import type { Steps } from "../internal/steps.ts";
import type { ImageParts } from "./content.ts";
import type { Superblock } from "./superblock.ts";

/** What an inode is. */
export type FileType = "file" | "directory" | "symlink" | "char" | "block" | "fifo" | "socket";

/** How an inode's data is laid out. */
export type DataLayout = (typeof DATA_LAYOUTS)[number];

/** Decoded EROFS inode, of either form. */
export interface Inode {
  /** node number: position in the inode area, or in the metadata box if bit 63 is set, in units of `32 bytes` */
  readonly nid: bigint;
  /** position in the image, or in the metadata box, in `bytes` */
  readonly offset: number;
  readonly form: "compact" | "extended";
  readonly layout: DataLayout;
  readonly type: FileType;
  /** permission bits with set-id and sticky bits, without the type */
  readonly mode: number;
  /** content length in `bytes` */
  readonly sizeBytes: bigint;
  /** number of names */
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  /** modification time in `seconds` since 1970 */
  readonly mtime: bigint;
  /** fraction of `mtime` in `nanoseconds` */
  readonly mtimeNsec: number;
  /** inode number for 32-bit stat */
  readonly ino: number;
  /** size of the inline xattr area behind the inode in `bytes` */
  readonly xattrSizeBytes: number;
  /** device numbers of a `char` or `block` inode */
  readonly device?: { readonly major: number; readonly minor: number };
  /** a directory that has no name `.`, as Linux 6.18 and newer read it */
  readonly lacksDot?: true;
  /** layout-specific word: first block, 2^48 - 1 for a hole, chunk format, or count of compressed blocks */
  readonly rawData: number;
}

/**
 * Decodes one inode.
 *
 * @param bytes - The inode's bytes, 32 for the compact form and 64 for the extended one; more is allowed.
 * @param nid - Its node number.
 * @param offset - Its position in the image, used in errors and kept in the result.
 * @param superblock - Gives compact inodes their modification time.
 * @returns The fields in host representation.
 * @throws {ErofsError} `EROFS_TRUNCATED` for too few bytes, `EROFS_UNSUPPORTED` for an unknown format or layout,
 *   `EROFS_CORRUPT` for a mode that is no file type.
 * @see Linux v6.12 and v6.18 `fs/erofs/inode.c`, `erofs_read_inode`
 * @example
 * const inode = decodeInode(block.subarray(0, 64), 36n, 1152, superblock);
 */
export function decodeInode(bytes: Uint8Array, nid: bigint, offset: number, superblock: Superblock): Inode {
  return decodeInodeAt(viewOf(bytes), 0, bytes.byteLength, { nid, offset }, superblock);
}

/** Decodes the inode at `at`, behind which there are `length` bytes in all. */
function decodeInodeAt(
  view: DataView,
  at: number,
  length: number,
  { nid, offset }: Pick<Inode, "nid" | "offset">,
  superblock: Superblock,
): Inode {
  if (length < COMPACT_INODE_SIZE) throw tooShort(COMPACT_INODE_SIZE, length, offset);
  const format = view.getUint16(at + INODE_FORMAT, true);
  if ((format & ~FORMAT_KNOWN) !== 0) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected an inode format below 0x20, got 0x${format.toString(16)}`, {
      offset,
    });
  }
  const layout = DATA_LAYOUTS[(format >> FORMAT_LAYOUT_SHIFT) & FORMAT_LAYOUT_MASK];
  if (layout === undefined) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected a data layout in 0..4, got ${format >> FORMAT_LAYOUT_SHIFT}`, {
      offset,
    });
  }
  const rawMode = view.getUint16(at + INODE_MODE, true);
  const type = MODE_TYPES.get(rawMode & MODE_TYPE_MASK);
  if (type === undefined) {
    throw new ErofsError("EROFS_CORRUPT", `expected a mode with a file type, got 0o${rawMode.toString(8)}`, {
      offset: offset + INODE_MODE,
    });
  }
  const xattrCount = view.getUint16(at + INODE_XATTR_COUNT, true);
  const isExtended = (format & FORMAT_EXTENDED) !== 0;
  if (isExtended && length < EXTENDED_INODE_SIZE) throw tooShort(EXTENDED_INODE_SIZE, length, offset);
  const fields = isExtended ? EXTENDED : COMPACT;
  const isDevice = type === "char" || type === "block";
  // Such an inode has the upper part of an address where others count their links.
  const hasOneLink = !isExtended && type !== "directory" && (format & FORMAT_ONE_LINK) !== 0;
  const high = isExtended || hasOneLink ? view.getUint16(at + INODE_BLOCK_HIGH, true) : 0;
  const low = view.getUint32(at + fields.data, true);
  const seconds = isExtended ? 0 : view.getUint32(at + COMPACT.mtime, true);
  const isHole = layout === "plain" && low === NULL_BLOCK && (!(isExtended || hasOneLink) || high === 0xffff);
  const rawData = isDevice || layout === "chunk" ? low : isHole ? WIDE_NULL_BLOCK : low + high * 2 ** 32;
  return {
    nid,
    offset,
    form: isExtended ? "extended" : "compact",
    layout,
    type,
    mode: rawMode & ~MODE_TYPE_MASK,
    sizeBytes: isExtended
      ? view.getBigUint64(at + EXTENDED.size, true)
      : BigInt(view.getUint32(at + COMPACT.size, true)),
    links: isExtended
      ? view.getUint32(at + EXTENDED.links, true)
      : hasOneLink
        ? 1
        : view.getUint16(at + COMPACT.links, true),
    uid: isExtended ? view.getUint32(at + EXTENDED.uid, true) : view.getUint16(at + COMPACT.uid, true),
    gid: isExtended ? view.getUint32(at + EXTENDED.gid, true) : view.getUint16(at + COMPACT.gid, true),
    mtime: isExtended
      ? view.getBigInt64(at + EXTENDED.mtime, true)
      : seconds === 0
        ? superblock.epoch
        : superblock.epoch + BigInt(seconds),
    mtimeNsec: isExtended ? view.getUint32(at + EXTENDED.mtimeNsec, true) : superblock.buildTimeNsec,
    ino: view.getUint32(at + fields.ino, true),
    rawData,
    xattrSizeBytes: xattrCount === 0 ? 0 : XATTR_HEADER_SIZE + (xattrCount - 1) * XATTR_UNIT,
    ...(type === "directory" && (format & FORMAT_ONE_LINK) !== 0 && { lacksDot: true as const }),
    ...(isDevice && { device: decodeDevice(rawData) }),
  };
}

function tooShort(needed: number, got: number, offset: number): ErofsError {
  return new ErofsError("EROFS_TRUNCATED", `expected ${needed} bytes of inode, got ${got}`, { offset });
}

/** Reads the inode with the node number `nid`. */
export function* inodeSteps(image: ImageParts, nid: bigint): Steps<Inode> {
  const { superblock } = image;
  const isInBox = isInMetabox(nid);
  const metadata = isInBox ? yield* image.metabox.open() : image.metadata;
  const offset = isInBox ? Number(nid ^ NID_IN_METABOX) * INODE_SLOT_SIZE : positionOf(nid, superblock);
  const length = Math.max(COMPACT_INODE_SIZE, Math.min(EXTENDED_INODE_SIZE, metadata.sizeBytes - offset));
  const at = yield* metadata.locate(offset, length);
  return decodeInodeAt(metadata.view, at, length, { nid, offset }, superblock);
}

/** Reads an inode if that takes no waiting. */
export function inodeNow({ superblock, metadata }: ImageParts, nid: bigint): Inode | undefined {
  const offset = placeOf(nid, superblock);
  if (!(offset + EXTENDED_INODE_SIZE <= metadata.sizeBytes)) return undefined;
  const at = metadata.find(offset, EXTENDED_INODE_SIZE);
  if (at === -1) return undefined;
  return decodeInodeAt(metadata.view, at, EXTENDED_INODE_SIZE, { nid, offset }, superblock);
}

/** Whether a node's inode, and all that belongs to it but blocks of content, is in the metadata box. */
export function isInMetabox(nid: bigint): boolean {
  return nid >= NID_IN_METABOX;
}

/** Where the inode of a node outside of the metadata box is, however far that may be. */
function placeOf(nid: bigint, { metaBlock, blockSize }: Superblock): number {
  return metaBlock * blockSize + Number(nid) * INODE_SLOT_SIZE;
}

function positionOf(nid: bigint, superblock: Superblock): number {
  const offset = placeOf(nid, superblock);
  if (Number.isSafeInteger(offset)) return offset;
  throw new ErofsError("EROFS_CORRUPT", `expected a node's position below 2^53, got node ${nid}`, { offset: 0 });
}

/** Position behind the inode and its inline xattrs: where inline data and chunk maps start. */
export function inodeTail(inode: Inode): number {
  const size = inode.form === "extended" ? EXTENDED_INODE_SIZE : COMPACT_INODE_SIZE;
  return inode.offset + size + inode.xattrSizeBytes;
}

/** Linux's `new_decode_dev`: 12 bits of major inside 20 bits of minor. */
function decodeDevice(raw: number): { major: number; minor: number } {
  return { major: (raw >>> 8) & 0xfff, minor: (raw & 0xff) | ((raw >>> 12) & 0xfff00) };
}
