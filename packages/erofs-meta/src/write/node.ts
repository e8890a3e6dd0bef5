import type { FileType } from "../read/inode.ts";

/** Where a node's content went, and what of it waits to be written behind its inode. */
export type Placement =
  | { readonly layout: "plain"; readonly block: number }
  | { readonly layout: "inline"; readonly block: number; readonly tail: Uint8Array }
  | { readonly layout: "chunk"; readonly chunkBits: number; readonly blocks: Uint32Array }
  | CompressedPlacement;

/** Content in extents; full indexes, which say for each of them where it is, for those not one behind another. */
export interface CompressedPlacement {
  readonly layout: "compressed-compact" | "compressed-full";
  readonly map: CompressedMap;
  /** the last extent, where it fits behind the indexes; empty where it does not */
  readonly tail: Uint8Array;
}

/** Where compressed content lies. */
export interface CompressedMap {
  /** number of the algorithm */
  readonly algorithm: number;
  /** extents may take more than a block */
  readonly isBig: boolean;
  readonly size: number;
  readonly extents: readonly StoredRun[];
}

/** One extent. */
export interface StoredRun {
  /** length of the content in `bytes` */
  readonly length: number;
  /** first block in the image; 0 for a tail behind the indexes */
  readonly block: number;
  /** blocks in the image; 0 for a tail behind the indexes */
  readonly blocks: number;
  readonly isCompressed: boolean;
}

/** Something an image will have an inode for. */
export interface Node {
  readonly type: FileType;
  readonly path: string;
  mode: number;
  uid: number;
  gid: number;
  mtime: bigint;
  mtimeNsec: number;
  xattrs: readonly EncodedXattr[];
  /** names of it, `.` and `..` of directories included */
  links: number;
  size: number;
  placement: Placement;
  device?: number;
  /** names in it, of a directory */
  readonly children?: Map<string, Child>;
  /** its inode number for 32-bit stat, and its position in units of 32 bytes, both given last */
  ino: number;
  nid: number;
  /** position of its inode, relative to the inode area; 0 until it has one */
  offset: number;
}

/** A directory. */
export type DirectoryNode = Node & { readonly children: Map<string, Child> };

/** What a name in a directory stands for. */
export type Child = Node | { readonly type: "link"; readonly path: string; readonly target: string };

/** An xattr as it is stored; entries of the same text are the same entry. */
export interface EncodedXattr {
  readonly bytes: Uint8Array;
  /** bit of the name filter that its name clears */
  readonly filterBit: number;
  /** nodes that have it */
  uses: number;
  /** position in the shared area in units of 4 bytes, once it has one */
  sharedId?: number;
}
