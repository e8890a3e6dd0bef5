/**
 * The FUSE kernel protocol, version 7.38: numbers and layouts, nothing else. All integers are little-endian.
 *
 * @see Linux v6.1 `include/uapi/linux/fuse.h`
 */

/** Version of the protocol; the minor one is the newest whose features are used. */
export const FUSE_VERSION = { major: 7, minor: 38 } as const;

/** Oldest minor version that has everything that is relied on. */
export const MINIMUM_MINOR_VERSION = 31;

/** Node of the directory that is mounted. */
export const ROOT_NODE = 1;

/** Length of `struct fuse_in_header`, with which a request begins, in `bytes`. */
export const REQUEST_HEADER_SIZE = 40;

/** Length of `struct fuse_out_header`, with which a reply begins, in `bytes`. */
export const REPLY_HEADER_SIZE = 16;

/** Most data bytes of one read or write; the program in the guest has buffers for this much. */
export const MAX_IO_SIZE = 256 * 1024;

/** Most bytes of a message: the data, and room for every header. */
export const MAX_FRAME_SIZE = MAX_IO_SIZE + 4096;

/** Size of a page of x86-64, in `bytes`. */
export const PAGE_SIZE = 4096;

/** `enum fuse_opcode`, as far as it is answered. */
export const OPCODE = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  read: 15,
  write: 16,
  statfs: 17,
  fsync: 20,
  init: 26,
  readdir: 28,
  fsyncdir: 30,
  create: 35,
  interrupt: 36,
  destroy: 38,
  notifyReply: 41,
  batchForget: 42,
  readdirplus: 44,
  rename2: 45,
  copyFileRange: 47,
} as const;

/** Messages of the program in the guest, in the form of requests whose `unique` is a number. */
export const TOLD = {
  /** that many notices were dealt with */
  noticed: 0x4c56_0001,
  /** everything that was asked is answered, and nothing is asked any more */
  paused: 0x4c56_0002,
} as const;

/** Messages to the program in the guest, in the form of notifications. */
export const TELL = {
  /** ask nothing more, and say when everything is answered */
  pause: 0x4c56_0001,
  /** go on */
  resume: 0x4c56_0002,
  /** make whoever watches a path notice that it has changed */
  touch: 0x4c56_0003,
  /** list a directory, so that the kernel knows what is in it */
  list: 0x4c56_0004,
} as const;

/** `enum fuse_notify_code`, as far as it is used. */
export const NOTIFY = { invalInode: 2, invalEntry: 3 } as const;

/** Most bytes of a notice: the program in the guest has buffers for this much. */
export const MAX_NOTICE_SIZE = 4096;

/** Notices that the program in the guest has room for. */
export const MAX_NOTICES = 64;

/** Flags of INIT that are asked for; those that the kernel does not have are not answered. */
export const INIT_FLAGS =
  (1 << 0) | // ASYNC_READ
  (1 << 5) | // BIG_WRITES
  (1 << 12) | // AUTO_INVAL_DATA
  (1 << 13) | // DO_READDIRPLUS
  (1 << 15) | // ASYNC_DIO
  (1 << 17) | // NO_OPEN_SUPPORT
  (1 << 18) | // PARALLEL_DIROPS
  (1 << 22) | // MAX_PAGES
  (1 << 23) | // CACHE_SYMLINKS
  (1 << 24); // NO_OPENDIR_SUPPORT

/** Bits of `fuse_setattr_in.valid` that are acted on. */
export const SETATTR = {
  mode: 1 << 0,
  size: 1 << 3,
  atime: 1 << 4,
  mtime: 1 << 5,
  atimeNow: 1 << 7,
  mtimeNow: 1 << 8,
} as const;

/** Flags of RENAME2. */
export const RENAME = { noReplace: 1, exchange: 2 } as const;

/** `O_APPEND` of the guest, in the flags of WRITE. */
export const GUEST_O_APPEND = 0o2000;

/** Length of `struct fuse_attr`, in `bytes`. */
export const ATTR_SIZE = 88;

/** Length of `struct fuse_entry_out`, in `bytes`. */
export const ENTRY_SIZE = 40 + ATTR_SIZE;

/** Length of `struct fuse_dirent` without its name, in `bytes`. */
export const DIRENT_SIZE = 24;

/** Bits of a mode that say what kind of file it is, and the kinds. */
export const KIND = { mask: 0o170000, directory: 0o040000, file: 0o100000, link: 0o120000 } as const;
