/**
 * `ustar` headers of 512 bytes, with the extensions of POSIX 2001 (pax) and GNU tar.
 *
 * @see POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Extended Header"; GNU tar 1.35, "Basic Tar Format"
 */
export const TAR_BLOCK_SIZE = 512;

/** fields by start and length in `bytes` */
export const TAR = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 6],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
  prefix: [345, 155],
} as const;

/** magic of POSIX archives, the only ones with a prefix; GNU's has a space instead of the NUL */
export const TAR_POSIX_MAGIC = "ustar\0";

export const TAR_TYPES = {
  file: "0",
  oldFile: "\0",
  hardLink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  directory: "5",
  fifo: "6",
  contiguousFile: "7",
  pax: "x",
  paxGlobal: "g",
  gnuSparse: "S",
  gnuLongName: "L",
  gnuLongLink: "K",
} as const;

/** keys of pax records that carry an xattr, its name behind them */
export const PAX_XATTR = "SCHILY.xattr.";
/** keys of pax records of GNU's sparse files */
export const PAX_SPARSE = "GNU.sparse.";

/** what archives are compressed with, by the first bytes of it, and the program that decompresses it to its output */
export const TAR_COMPRESSIONS = [
  { name: "gzip", magic: [0x1f, 0x8b], program: "zcat" },
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], program: "xzcat" },
  { name: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd], program: "zstdcat" },
  { name: "bzip2", magic: [0x42, 0x5a, 0x68], program: "bzcat" },
  { name: "lz4", magic: [0x04, 0x22, 0x4d, 0x18], program: "lz4cat" },
  { name: "lzip", magic: [0x4c, 0x5a, 0x49, 0x50], program: "lzip -dc" },
  { name: "LZMA", magic: [0x5d, 0x00, 0x00], program: "xzcat" },
  { name: "compress", magic: [0x1f, 0x9d], program: "zcat" },
] as const;
