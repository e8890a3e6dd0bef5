/**
 * `struct erofs_xattr_ibody_header`, `struct erofs_xattr_entry`, `struct erofs_xattr_long_prefix`, little endian.
 *
 * @see Linux v6.12 `fs/erofs/erofs_fs.h`
 */
export const XATTR_HEADER_SIZE = 12;
export const XATTR_HEADER = { nameFilter: 0, sharedCount: 4 } as const;
export const XATTR_ENTRY_SIZE = 4;
export const XATTR_ENTRY = { nameLength: 0, nameIndex: 1, valueSize: 2 } as const;
export const XATTR_ALIGNMENT = 4;
/** bytes per unit of `i_xattr_icount` after the header, and of a shared xattr id */
export const XATTR_UNIT = 4;

/** bit 7 of the name index: the rest numbers a long prefix of this image */
export const XATTR_LONG_PREFIX = 0x80;

/** a record of such a prefix: its length without this field, a number of those below, and what follows that */
export const XATTR_PREFIX = { size: 0, base: 2, infix: 3 } as const;
/** most long prefixes of an image */
export const MAX_LONG_PREFIXES = 128;

export const XATTR_PREFIXES: ReadonlyMap<number, string> = new Map([
  [1, "user."],
  [2, "system.posix_acl_access"],
  [3, "system.posix_acl_default"],
  [4, "trusted."],
  [5, "lustre."],
  [6, "security."],
]);

/** most shared xattr ids of an inode, `EROFS_MAX_SHARED_XATTRS` */
export const MAX_SHARED_XATTRS = 128;

/** bits of an inode's name filter, and what its hash begins with */
export const XATTR_FILTER_BITS = 32;
export const XATTR_FILTER_SEED = 0x25bb_e08f;
