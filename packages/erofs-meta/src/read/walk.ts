import { ErofsError } from "../errors.ts";
import { parseOptions, type WalkOptions, walkOptions } from "../options.ts";
import { contentOf, type ImageParts } from "./content.ts";
import { type DirectoryEntry, decodeDirectoryBlock } from "./directory.ts";
import type { Inode } from "./inode.ts";

/** One place in an image's tree. */
export interface WalkEntry {
  /** absolute path inside the image; `/` for the root */
  readonly path: string;
  /** last component; empty for the root */
  readonly name: string;
  /** directories above it: 0 for the root */
  readonly depth: number;
  readonly inode: Inode;
}

/** Streams a directory's entries in stored order, `.` and `..` included. */
export async function* entriesOf(image: ImageParts, directory: Inode): AsyncGenerator<DirectoryEntry> {
  assertDirectory(directory);
  const { blockSize } = image.superblock;
  const size = Number(directory.sizeBytes);
  let at = 0;
  for await (const piece of contentOf(image, directory, { start: 0, end: size })) {
    for (let start = 0; start < piece.byteLength; start += blockSize) {
      yield* decodeDirectoryBlock(piece.subarray(start, start + blockSize), at + start);
    }
    at += piece.byteLength;
  }
}

/**
 * Walks depth first, parents before children, in stored order. Every directory may be reached once only, which makes
 * loops and the exponential trees of repeated directories impossible.
 */
export async function* walkFrom(
  image: ImageParts,
  start: { readonly path: string; readonly inode: Inode },
  readInode: (nid: bigint) => Promise<Inode>,
  options: WalkOptions,
): AsyncGenerator<WalkEntry> {
  const { maxEntries, maxDepth, signal } = parseOptions(walkOptions, options);
  const seen = new Set<bigint>();
  const open: { prefix: string; depth: number; entries: AsyncGenerator<DirectoryEntry> }[] = [];
  let count = 0;

  const enter = (path: string, depth: number, directory: Inode): void => {
    if (seen.has(directory.nid)) {
      throw new ErofsError("EROFS_CORRUPT", `expected each directory once, got node ${directory.nid} again`, {
        offset: directory.offset,
        path,
      });
    }
    if (depth > maxDepth)
      throw new ErofsError("EROFS_LIMIT", `expected at most ${maxDepth} nested directories`, { path });
    seen.add(directory.nid);
    open.push({ prefix: path === "/" ? "/" : `${path}/`, depth, entries: entriesOf(image, directory) });
  };

  yield { path: start.path, name: start.path.slice(start.path.lastIndexOf("/") + 1), depth: 0, inode: start.inode };
  if (start.inode.type === "directory") enter(start.path, 1, start.inode);
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const { value: entry, done } = await top.entries.next();
    if (done === true) {
      open.pop();
      continue;
    }
    if (entry.name === "." || entry.name === "..") continue;
    signal?.throwIfAborted();
    count += 1;
    const path = top.prefix + entry.name;
    if (count > maxEntries) throw new ErofsError("EROFS_LIMIT", `expected at most ${maxEntries} names`, { path });
    const inode = await readInode(entry.nid);
    yield { path, name: entry.name, depth: top.depth, inode };
    if (inode.type === "directory") enter(path, top.depth + 1, inode);
  }
}

/** Refuses to list what is not a directory. */
export function assertDirectory(inode: Inode): void {
  if (inode.type !== "directory") {
    throw new ErofsError("EROFS_WRONG_TYPE", `expected a directory, got a ${inode.type}`, { offset: inode.offset });
  }
}
