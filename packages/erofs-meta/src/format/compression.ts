/**
 * `struct z_erofs_map_header` (8 bytes), `struct z_erofs_lcluster_index` (8 bytes) and the packs of compact indexes,
 * little endian.
 *
 * @see Linux v6.12 and v6.18 `fs/erofs/erofs_fs.h`
 */
export const MAP_HEADER_SIZE = 8;
export const MAP_HEADER = {
  fragmentOffset: 0,
  inlineSize: 2,
  extents: 0,
  advise: 4,
  algorithms: 6,
  clusterBits: 7,
  extentsHigh: 6,
} as const;

export const ADVISE_COMPACTED_2B = 0x1;
export const ADVISE_BIG_CLUSTERS_1 = 0x2;
export const ADVISE_BIG_CLUSTERS_2 = 0x4;
export const ADVISE_INLINE_TAIL = 0x8;
export const ADVISE_INTERLACED = 0x10;
export const ADVISE_FRAGMENT_TAIL = 0x20;
/** in place of packs, where there are none: a list of extents instead of indexes, and log2 of their size in words */
export const ADVISE_EXTENTS = 0x1;
export const ADVISE_EXTENT_SIZE_SHIFT = 1;
export const ADVISE_EXTENT_SIZE_MASK = 0x3;
/** bits of `h_advise` that Linux 6.18 knows */
export const ADVISE_KNOWN = 0x3f;

/** log2 of a logical cluster's size in blocks */
export const CLUSTER_BITS_MASK = 0xf;
/** bit of `h_clusterbits`: the whole content is a fragment, and the header is its position in the packed inode */
export const WHOLE_FRAGMENT = 0x80;

/** kinds of logical clusters: where an extent starts, stored with algorithm 1 or 2 or, being 0, as it is; where one goes on */
export const CLUSTER_PLAIN = 0;
export const CLUSTER_HEAD_1 = 1;
export const CLUSTER_CONTINUED = 2;
export const CLUSTER_HEAD_2 = 3;
export const CLUSTER_TYPE_MASK = 0x3;

export const FULL_INDEX_SIZE = 8;
export const FULL_INDEX = { advise: 0, clusterOffset: 2, block: 4, delta: 4, deltaAhead: 6 } as const;
/** bytes between the map header and the first full index */
export const FULL_INDEX_PADDING = 8;

/** `struct z_erofs_extent`, of which the first 4, 8, 16 or all 32 bytes are stored */
export const EXTENT_RECORD = { length: 0, position: 4, positionHigh: 8, start: 12, startHigh: 16 } as const;
/** `plen`: length in the image, 0 for a hole, and above it an algorithm plus 1 or 0 for what is stored as it is */
export const EXTENT_LENGTH_MASK = 2 * 1024 * 1024 - 1;
export const EXTENT_ALGORITHM_SHIFT = 28;
/** bytes before the records where these are of 4 bytes: the position of the first extent */
export const EXTENT_BASE_SIZE = 8;

/** bytes of a pack of compact indexes, its last four being a block address, and the indexes in it */
export const PACK_4B = { size: 8, count: 2, bits: 16 } as const;
export const PACK_2B = { size: 32, count: 16, bits: 14 } as const;
export const PACK_BLOCK_SIZE = 4;
/** packs of 2 bytes an index start at multiples of this */
export const PACK_2B_ALIGNMENT = 32;
/** fewest bits of the offset or distance in a compact index */
export const PACK_MIN_VALUE_BITS = 12;
export const MAX_CLUSTER_BITS_4B = 14;
export const MAX_CLUSTER_BITS_2B = 12;

/** bit of the first distance behind a head: the rest counts the blocks the extent takes in the image */
export const COUNTS_BLOCKS = 0x800;

/** most bytes an extent may have in the image, `Z_EROFS_PCLUSTER_MAX_SIZE` */
export const MAX_STORED_EXTENT_SIZE = 1024 * 1024;
/** most bytes an extent may decode to, `Z_EROFS_PCLUSTER_MAX_DSIZE` */
export const MAX_DECODED_EXTENT_SIZE = 12 * 1024 * 1024;

/** superblock bits that say compressed inodes have a map header: big clusters, packed tails, fragments, 48 bits */
export const INCOMPAT_WITH_MAP_HEADER = 0x2 | 0x10 | 0x20 | 0x80;
/** superblock bit: the superblock says which algorithms there are, and extents may take several blocks */
export const INCOMPAT_COMPRESSION_RECORDS = 0x2;
/** superblock bit: last extents may lie behind the indexes */
export const INCOMPAT_INLINE_TAILS = 0x10;
/** superblock bit: stored extents are padded with zeros in front instead of behind */
export const INCOMPAT_ZERO_PADDING = 0x1;

/** records of algorithms behind the superblock, each with its length in front: `struct z_erofs_lz4_cfgs` and others */
export const LZ4_RECORD = { size: 14, maxDistance: 0, maxBlocks: 2 } as const;
export const DEFLATE_RECORD = { size: 6, windowBits: 0 } as const;
export const DEFLATE_WINDOW_BITS = 15;
export const LZ4_MAX_DISTANCE = 65535;
