/**
 * `struct erofs_dirent`, 12 bytes, little endian: an array at the start of each directory block, names behind it.
 *
 * @see Linux v6.12 `fs/erofs/erofs_fs.h`
 */
export const DIRENT_SIZE = 12;
export const DIRENT = { nid: 0, nameOffset: 8, fileType: 10 } as const;
/** longest name in `bytes` */
export const MAX_NAME_BYTES = 255;

/** `file_type` of a dirent, the same numbers as Linux's `FT_*` */
export const DIRENT_TYPES = ["unknown", "file", "directory", "char", "block", "fifo", "socket", "symlink"] as const;
