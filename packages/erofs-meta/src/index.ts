// Where bytes come from and go to
export {
  type BlockSource,
  type ByteSink,
  DEFAULT_HTTP_TIMEOUT_MS,
  DEFAULT_MAX_HTTP_CACHE_BYTES,
  type DisposableBlockSource,
  fileSource,
  type HttpSourceOptions,
  httpSource,
  memorySource,
  windowSource,
} from "./block-source.ts";
// Checking images
export { type CheckErofsOptions, checkErofs, type ErofsReport } from "./check/check.ts";
export type { ErofsProblem } from "./check/problems.ts";
// Metadata-only images
export { formatComposefsDump, parseComposefsDump } from "./composefs/dump.ts";
export type { ComposefsEntry, ComposefsLink, ComposefsNode } from "./composefs/entry.ts";
export { fsVerityDigest } from "./composefs/fs-verity.ts";
export { readComposefs } from "./composefs/read.ts";
export { encodeComposefs } from "./composefs/write.ts";
export { type DiffAspect, type DiffField, type DiffOptions, diffErofs, type ErofsDiff } from "./diff.ts";
export { ErofsError, type ErofsErrorCode, type ErofsErrorDetails } from "./errors.ts";
export { type ExtractedXattrs, type ExtractOptions, type ExtractReport, extractErofs } from "./extract.ts";
// Forward error correction
export { type BuildFecOptions, buildVerityFec, type VerityFec } from "./fec/build.ts";
export { type RepairVerityOptions, repairVerityTree, type VerityRepair } from "./fec/repair.ts";
export { FEC_ROOTS } from "./format/fec.ts";
export type { CompressionOptions, VerityAlgorithm, VerityProgress, WalkOptions } from "./options.ts";
export {
  DEFAULT_BLOCK_SIZE,
  DEFAULT_MAX_DAMAGE,
  DEFAULT_MAX_DEPTH,
  DEFAULT_MAX_DIFF_BLOCKS,
  DEFAULT_MAX_ENTRIES,
  DEFAULT_MAX_EXTRACT_BYTES,
  DEFAULT_MAX_FILE_BYTES,
  DEFAULT_MAX_OLD_EXTENTS,
  DEFAULT_MAX_REGIONS,
  DEFAULT_MAX_SYMLINKS,
  DEFAULT_MAX_TAIL_BYTES,
  DEFAULT_MAX_TAR_HEADER_BYTES,
  DEFAULT_VERITY_BLOCK_SIZE,
} from "./options.ts";
export type { Encoding } from "./read/compressed-map.ts";
export type { DataPiece, Extent } from "./read/content.ts";
export { type DirectoryEntry, decodeDirectoryBlock } from "./read/directory.ts";
// Images
export { type ContentOptions, ErofsImage, openErofs } from "./read/image.ts";
// On-disk structures
export { type DataLayout, decodeInode, type FileType, type Inode } from "./read/inode.ts";
export { decodeSuperblock, type Superblock } from "./read/superblock.ts";
export type { WalkEntry } from "./read/walk.ts";
export type { Xattr } from "./read/xattr.ts";
// dm-verity
export type { BlockRange } from "./verity/block-ranges.ts";
export { type BuildVerityOptions, buildVerityTree, type VerityTree } from "./verity/build.ts";
export { type VerityGeometry, verityGeometry } from "./verity/geometry.ts";
export {
  type ByteRange,
  type DamagedFile,
  type LocatedDamage,
  type LocateOptions,
  locateDamage,
} from "./verity/locate.ts";
export { decodeVeritySuperblock, encodeVeritySuperblock, type VeritySuperblock } from "./verity/superblock.ts";
export {
  type DamagedHashBlock,
  type VerifyVerityOptions,
  type VerityReport,
  verifyVerityTree,
} from "./verity/verify.ts";
// Writing images
export type {
  ContentStream,
  TreeAttributes,
  TreeDevice,
  TreeDirectory,
  TreeEntries,
  TreeEntry,
  TreeFile,
  TreeHardLink,
  TreeSpecial,
  TreeSymlink,
} from "./write/entry.ts";
export { type ReadDirectoryOptions, readDirectory } from "./write/read-directory.ts";
export { readTar } from "./write/read-tar.ts";
export { type WriteErofsOptions, type WrittenErofs, writeErofs } from "./write/write.ts";
export { addXattrs, formatXattrDump, parseXattrDump, type XattrDump } from "./write/xattr-dump.ts";
