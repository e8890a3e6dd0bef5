/**
 * `struct erofs_super_block`, little endian, 128 bytes at byte 1024, and more in extension slots.
 *
 * @see Linux v6.12 and v6.18 `fs/erofs/erofs_fs.h`
 */
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 128;
export const SUPERBLOCK_MAGIC = 0xe0f5e1e2;

export const SUPERBLOCK = {
  magic: 0,
  checksum: 4,
  featureCompat: 8,
  blockSizeBits: 12,
  extensionSlots: 13,
  rootNid: 14,
  /** with 48-bit addresses instead of the root's number */
  blocksHigh: 14,
  inodes: 16,
  epoch: 24,
  epochNsec: 32,
  blocks: 36,
  metaBlock: 40,
  xattrBlock: 44,
  uuid: 48,
  volumeName: 64,
  featureIncompat: 80,
  compressionAlgorithms: 84,
  extraDevices: 86,
  deviceTableSlot: 88,
  directoryBlockBits: 90,
  xattrPrefixCount: 91,
  xattrPrefixStart: 92,
  packedNid: 96,
  xattrFilterReserved: 104,
  /** seconds from the epoch to the build time */
  buildTime: 108,
  wideRootNid: 112,
  /** in the first extension slot */
  metaboxNid: 128,
} as const;

export const VOLUME_NAME_SIZE = 16;

/** `struct erofs_deviceslot`, behind one another from a multiple of their size on */
export const DEVICE_SLOT_SIZE = 128;
export const DEVICE_SLOT = { blocks: 64, mappedBlock: 68, blocksHigh: 72, mappedBlockHigh: 74 } as const;

/** bytes per superblock extension slot */
export const EXTENSION_SLOT_SIZE = 16;

export const MIN_BLOCK_SIZE_BITS = 9;
export const MAX_BLOCK_SIZE_BITS = 16;

export const COMPAT_SB_CHKSUM = 0x1;
/** the time of an extended inode is its modification time */
export const COMPAT_MTIME = 0x2;
/** inodes say which names of extended attributes they certainly have not */
export const COMPAT_XATTR_FILTER = 0x4;
/** the shared xattr area is a part of the metadata box */
export const COMPAT_SHARED_XATTRS_IN_BOX = 0x8;
/** long xattr name prefixes are stored in the image itself, whatever else there is */
export const COMPAT_PLAIN_XATTR_PREFIXES = 0x10;
export const COMPAT_FEATURES: ReadonlyMap<number, string> = new Map([
  [COMPAT_SB_CHKSUM, "sb_chksum"],
  [COMPAT_MTIME, "mtime"],
  [COMPAT_XATTR_FILTER, "xattr_filter"],
  [COMPAT_SHARED_XATTRS_IN_BOX, "shared_ea_in_metabox"],
  [COMPAT_PLAIN_XATTR_PREFIXES, "plain_xattr_pfx"],
  [0x20, "ishare_xattrs"],
]);

/** incompat bit: some inodes are chunk-based */
export const INCOMPAT_CHUNKED_FILE = 0x4;
/** incompat bit: there are extra devices, or extents compressed with a second algorithm */
export const INCOMPAT_DEVICE_TABLE = 0x8;

/** incompat bit: xattr names may start with prefixes of the image's own */
export const INCOMPAT_XATTR_PREFIXES = 0x40;
/** incompat bit: block addresses have 48 bits, and the superblock has room for a wide root number */
export const INCOMPAT_48BIT = 0x80;
/** incompat bit: some inodes are in the content of one of them, which may be compressed */
export const INCOMPAT_METABOX = 0x100;

/** incompat bits this package understands well enough to read metadata; two pairs of features share a bit on disk */
export const INCOMPAT_FEATURES: ReadonlyMap<number, string> = new Map([
  [0x1, "zero_padding"],
  [0x2, "compr_cfgs/big_pcluster"],
  [INCOMPAT_CHUNKED_FILE, "chunked_file"],
  [INCOMPAT_DEVICE_TABLE, "device_table/compr_head2"],
  [0x10, "ztailpacking"],
  [0x20, "fragments/dedupe"],
  [INCOMPAT_XATTR_PREFIXES, "xattr_prefixes"],
  [INCOMPAT_48BIT, "48bit"],
  [INCOMPAT_METABOX, "metabox"],
]);

/** compression algorithms by bit of the algorithm mask */
export const COMPRESSION_ALGORITHMS = ["lz4", "lzma", "deflate", "zstd"] as const;
