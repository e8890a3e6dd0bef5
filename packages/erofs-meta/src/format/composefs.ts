/**
 * Metadata-only images: an EROFS image that stands for files kept elsewhere, under overlayfs.
 *
 * @see composefs 1.0.8 `libcomposefs/lcfs-erofs.h`; Linux v6.12 `Documentation/filesystems/overlayfs.rst`, "Metadata only
 *   copy up" and "fs-verity support"
 */
export const COMPOSEFS_MAGIC = 0xd078_629a;
export const COMPOSEFS_HEADER_VERSION = 1;
export const COMPOSEFS_HEADER = { magic: 0, version: 4, flags: 8, composefsVersion: 12 } as const;
export const COMPOSEFS_FLAG_HAS_ACL = 1;

export const COMPOSEFS_BLOCK_SIZE = 4096;
/** most bytes of content that an image holds itself */
export const COMPOSEFS_MAX_INLINE = 5000;
/** most chunks of a file whose content is elsewhere */
export const COMPOSEFS_MAX_CHUNKS = 1024;
export const COMPOSEFS_MAX_NAME = 255;
/** longest target of a symbolic link, `PATH_MAX` without its NUL */
export const COMPOSEFS_MAX_TARGET = 4095;
export const COMPOSEFS_MAX_XATTR_NAME = 255;
/** most bytes of all extended attributes of a node, and what each of them and all together count for besides */
export const COMPOSEFS_MAX_XATTRS = 0x7fff;
export const COMPOSEFS_XATTR_COST = { each: 7, all: 12 } as const;

export const OVERLAY = {
  prefix: "trusted.overlay.",
  escapedPrefix: "trusted.overlay.overlay.",
  userPrefix: "user.overlay.",
  metacopy: "trusted.overlay.metacopy",
  redirect: "trusted.overlay.redirect",
  opaque: "trusted.overlay.opaque",
} as const;

/** `struct ovl_metacopy`: version, length, flags, `FS_VERITY_HASH_ALG_SHA256`, digest */
export const OVERLAY_METACOPY_HEADER = [0, 36, 0, 1] as const;

/**
 * `struct fsverity_descriptor`, 256 bytes, little endian.
 *
 * @see Linux v6.12 `Documentation/filesystems/fsverity.rst`, "fs-verity descriptor"
 */
export const FS_VERITY_DESCRIPTOR_SIZE = 256;
export const FS_VERITY_DESCRIPTOR = {
  version: 0,
  hashAlgorithm: 1,
  logBlockSize: 2,
  dataSize: 8,
  rootHash: 16,
} as const;
export const FS_VERITY_SHA256 = 1;
