/**
 * QEMU's copy-on-write image format, versions 2 and 3, big endian.
 *
 * @see QEMU, docs/interop/qcow2: "Header", "Refcounts", "Cluster mapping"
 */
export const QCOW2_MAGIC = 0x5146_49fb;
export const QCOW2_HEADER = {
  magic: 0,
  version: 4,
  backingFileOffset: 8,
  backingFileSize: 16,
  clusterBits: 20,
  size: 24,
  cryptMethod: 32,
  l1Size: 36,
  l1TableOffset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatibleFeatures: 72,
  compatibleFeatures: 80,
  autoclearFeatures: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;
/** what a header of version 2 holds, in `bytes` */
export const QCOW2_HEADER_SIZE_V2 = 72;
/** what a header of version 3 holds at least, in `bytes` */
export const QCOW2_HEADER_SIZE_V3 = 104;
/** a header of version 3 with its compression type, padded to 8 bytes */
export const QCOW2_HEADER_SIZE = 112;

/** Features that a reader has to know; by bit. */
export const QCOW2_INCOMPATIBLE = {
  dirty: 0n,
  corrupt: 1n,
  "an external data file": 2n,
  "a compression other than deflate": 3n,
  "extended L2 entries": 4n,
} as const;

/** clusters of 512 bytes to 2 MiB */
export const QCOW2_CLUSTER_BITS = { min: 9, max: 21 } as const;

/** Entries of L1 and L2 tables: flags, and the host offset between them. */
export const QCOW2_ENTRY_SIZE = 8;
export const QCOW2_COPIED = 1n << 63n;
export const QCOW2_COMPRESSED = 1n << 62n;
export const QCOW2_ALL_ZERO = 1n;
export const QCOW2_OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;

/** refcounts of 1 << 4 bits */
export const QCOW2_REFCOUNT_ORDER = 4;
/** compressed clusters are counted in sectors of this many `bytes` */
export const QCOW2_SECTOR_SIZE = 512;
