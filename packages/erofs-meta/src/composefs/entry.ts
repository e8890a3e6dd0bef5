/** What a node of a metadata-only image is, as a line of a dump says it. */
export interface ComposefsNode {
  /** absolute path; `/` is the root, and every directory comes before what is in it */
  readonly path: string;
  /** type and permission bits, as `st_mode` has them */
  readonly mode: number;
  /** size of a regular file in `bytes`; nothing else's counts */
  readonly sizeBytes: number;
  /** names that the node has; that of a directory is counted */
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  /** `st_rdev` of a device node */
  readonly device: number;
  /** modification time in `seconds` since 1970 */
  readonly mtime: bigint;
  /** fraction of `mtime` in `nanoseconds` */
  readonly mtimeNsec: number;
  /** target of a symbolic link; where the content of a regular file lies, relative to the objects */
  readonly payload?: string | undefined;
  /** content that the image holds itself, at most 5000 bytes */
  readonly content?: Uint8Array | undefined;
  /** fs-verity digest of the content that lies elsewhere, 32 bytes */
  readonly digest?: Uint8Array | undefined;
  readonly xattrs: Readonly<Record<string, Uint8Array>>;
}

/** One more name of a node that is no directory. */
export interface ComposefsLink {
  readonly path: string;
  /** absolute path of the node, which may come later */
  readonly linkTo: string;
}

/** A line of a dump. */
export type ComposefsEntry = ComposefsNode | ComposefsLink;
