/** Who owns something, who may use it, and when it changed. */
export interface TreeAttributes {
  /** place in the image, components separated by `/`; a leading or trailing `/` and `./` do not matter */
  readonly path: string;
  /** permission bits with set-id and sticky bits; 0o755 for directories, 0o777 for symlinks, 0o644 unless given */
  readonly mode?: number | undefined;
  /** owner, 0 unless given */
  readonly uid?: number | undefined;
  /** group, 0 unless given */
  readonly gid?: number | undefined;
  /** modification time in `seconds` since 1970; the image's build time unless given */
  readonly mtime?: bigint | undefined;
  /** fraction of `mtime` in `nanoseconds` */
  readonly mtimeNsec?: number | undefined;
  /** extended attributes by full name, such as `security.capability` */
  readonly xattrs?: Readonly<Record<string, Uint8Array>> | undefined;
  /** takes the place of what has this path already; false, when only directories may come twice, unless given */
  readonly replaces?: boolean | undefined;
}

/** Content that is read once, when the writer comes to it. */
export interface ContentStream {
  /** length in `bytes`, which `read` has to give exactly */
  readonly sizeBytes: number;
  /** Streams the content in pieces of any size; pieces are not kept. */
  read(): AsyncIterable<Uint8Array>;
  /** All of it, where it is at hand without waiting; it is not kept, and may be something else by the next entry. */
  readNow?(): Uint8Array | undefined;
}

/** A file; bytes are not copied and have to stay unchanged until the image is written. */
export type TreeFile = TreeAttributes & { readonly type: "file"; readonly content: Uint8Array | ContentStream };
/** A directory; directories that are only named as part of a path need no entry. */
export type TreeDirectory = TreeAttributes & { readonly type: "directory" };
/** A symbolic link. */
export type TreeSymlink = TreeAttributes & { readonly type: "symlink"; readonly target: string };
/** A device node. */
export type TreeDevice = TreeAttributes & {
  readonly type: "char" | "block";
  readonly device: { readonly major: number; readonly minor: number };
};
/** A named pipe or socket. */
export type TreeSpecial = TreeAttributes & { readonly type: "fifo" | "socket" };
/**
 * One more name for a node that is no directory; its own attributes are the node's. It stays a name of that node when
 * something else takes the place of what has been at `target` when the link came.
 */
export interface TreeHardLink {
  readonly type: "link";
  readonly path: string;
  /** path of the node in the image, which may come later */
  readonly target: string;
  /** as for {@link TreeAttributes} */
  readonly replaces?: boolean | undefined;
}

/** One name of the tree that an image is made of. */
export type TreeEntry = TreeFile | TreeDirectory | TreeSymlink | TreeDevice | TreeSpecial | TreeHardLink;

/** A tree in any order; parents that are missing are made. */
export type TreeEntries = Iterable<TreeEntry> | AsyncIterable<TreeEntry>;
