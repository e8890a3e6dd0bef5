/**
 * `struct erofs_inode_compact` (32 bytes) and `struct erofs_inode_extended` (64 bytes), little endian.
 *
 * @see Linux v6.12 and v6.18 `fs/erofs/erofs_fs.h`
 */
export const INODE_SLOT_SIZE = 32;
export const COMPACT_INODE_SIZE = 32;
export const EXTENDED_INODE_SIZE = 64;

export const INODE_FORMAT = 0;
export const INODE_XATTR_COUNT = 2;
export const INODE_MODE = 4;
/** the upper 16 bits of a block address, where the links of a compact inode are unless it has just one */
export const INODE_BLOCK_HIGH = 6;

/** `mtime` counts `seconds` from the epoch of the image on */
export const COMPACT = { links: 6, size: 8, mtime: 12, data: 16, ino: 20, uid: 24, gid: 26 } as const;
export const EXTENDED = {
  size: 8,
  data: 16,
  ino: 20,
  uid: 24,
  gid: 28,
  mtime: 32,
  mtimeNsec: 40,
  links: 44,
} as const;

export const FORMAT_EXTENDED = 0x1;
export const FORMAT_LAYOUT_SHIFT = 1;
export const FORMAT_LAYOUT_MASK = 0x7;
/** a compact inode has one link; or a directory has no `.` */
export const FORMAT_ONE_LINK = 0x10;
/** bits of `i_format` that Linux 6.18 knows */
export const FORMAT_KNOWN = 0x1f;
/** bit of a node number: the inode is in the metadata box */
export const NID_IN_METABOX = 1n << 63n;

/** data layouts by their number in `i_format` */
export const DATA_LAYOUTS = ["plain", "compressed-full", "inline", "compressed-compact", "chunk"] as const;

/** `i_u` of a chunk-based inode: log2 of blocks per chunk */
export const CHUNK_BLOCK_BITS_MASK = 0x1f;
/** the map has 8-byte indexes with a device number instead of 4-byte block addresses */
export const CHUNK_HAS_INDEXES = 0x20;
/** indexes have 48-bit block addresses */
export const CHUNK_WIDE = 0x40;
export const CHUNK_KNOWN = 0x7f;
export const CHUNK_MAP_ENTRY_SIZE = 4;
export const CHUNK_INDEX_SIZE = 8;
export const CHUNK_INDEX = { blockHigh: 0, deviceId: 2, block: 4 } as const;
/** block addresses that stand for a hole, of 32 and of 48 bits */
export const NULL_BLOCK = 0xffffffff;
export const WIDE_NULL_BLOCK = 2 ** 48 - 1;

/** `S_IFMT` and its values, POSIX `<sys/stat.h>` as Linux numbers them */
export const MODE_TYPE_MASK = 0o170000;
export const MODE_TYPES: ReadonlyMap<number, "file" | "directory" | "symlink" | "char" | "block" | "fifo" | "socket"> =
  new Map([
    [0o100000, "file"],
    [0o040000, "directory"],
    [0o120000, "symlink"],
    [0o020000, "char"],
    [0o060000, "block"],
    [0o010000, "fifo"],
    [0o140000, "socket"],
  ]);
/** the other way around */
export const MODE_BITS: ReadonlyMap<string, number> = new Map([...MODE_TYPES].map(([bits, type]) => [type, bits]));
