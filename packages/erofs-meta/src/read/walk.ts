import { ErofsError } from "../errors.ts";
import { awaited, type Steps, type Stream } from "../internal/steps.ts";
import { parseOptions, type WalkOptions, walkOptions } from "../options.ts";
import { contentOf, type ImageParts } from "./content.ts";
import { type DirectoryEntry, decodeDirectoryBlock } from "./directory.ts";
import { type DirectoryBlock, directoryBlocks, inBlocks } from "./directory-reader.ts";
import { type Inode, inodeNow, inodeSteps } from "./inode.ts";
import { INODE_COST } from "./pace.ts";

/** One place in an image's tree. */
export interface WalkEntry {
  /** absolute path inside the image; `/` for the root */
  readonly path: string;
  /** last component; empty for the root */
  readonly name: string;
  /** directories above it: 0 for the root */
  readonly depth: number;
  readonly inode: Inode;
  /** whether no other entry of its directory follows */
  readonly last: boolean;
}

/** Streams a directory's entries in stored order, `.` and `..` included. */
export function* entriesOf(image: ImageParts, directory: Inode): Stream<DirectoryEntry> {
  assertDirectory(directory);
  const { blockSize } = image.superblock;
  const size = Number(directory.sizeBytes);
  let at = 0;
  for (const block of inBlocks(contentOf(image, directory, { start: 0, end: size }), blockSize)) {
    if (block instanceof Promise) {
      yield block;
      continue;
    }
    yield* decodeDirectoryBlock(block, at);
    at += block.byteLength;
  }
}

/** A directory the walk is in: the block it is at, and the ones to come. */
interface Open {
  readonly prefix: string;
  readonly depth: number;
  readonly blocks: Stream<DirectoryBlock>;
  block: DirectoryBlock;
  index: number;
}

/**
 * Walks depth first, parents before children, in stored order. Every directory may be reached once only, which makes
 * loops and the exponential trees of repeated directories impossible.
 */
export function* walkFrom(
  image: ImageParts,
  start: { readonly path: string; find(): Promise<Inode> },
  options: WalkOptions,
): Stream<WalkEntry> {
  const { levels, maxEntries, maxDepth, signal } = parseOptions(walkOptions, options);
  const seen = new Set<bigint>();
  const open: Open[] = [];
  let count = 0;

  const enter = (path: string, depth: number, directory: Inode): void => {
    if (depth > levels) return;
    if (seen.has(directory.nid)) {
      throw new ErofsError("EROFS_CORRUPT", `expected each directory once, got node ${directory.nid} again`, {
        offset: directory.offset,
        path,
      });
    }
    if (depth > maxDepth)
      throw new ErofsError("EROFS_LIMIT", `expected at most ${maxDepth} nested directories`, { path });
    seen.add(directory.nid);
    const prefix = path === "/" ? "/" : `${path}/`;
    open.push({ prefix, depth, blocks: directoryBlocks(image, directory), block: { names: [], nids: [] }, index: 0 });
  };

  const first = yield* awaited(start.find());
  yield {
    path: start.path,
    name: start.path.slice(start.path.lastIndexOf("/") + 1),
    depth: 0,
    inode: first,
    last: true,
  };
  if (first.type === "directory") enter(start.path, 1, first);
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const { index, block, depth } = top;
    const name = block.names[index];
    const nid = block.nids[index];
    if (name === undefined || nid === undefined) {
      if (!(yield* nextBlock(top))) open.pop();
      continue;
    }
    top.index = index + 1;
    const last = top.index === block.names.length && !(yield* nextBlock(top));
    signal?.throwIfAborted();
    count += 1;
    const path = top.prefix + name;
    if (count > maxEntries) throw new ErofsError("EROFS_LIMIT", `expected at most ${maxEntries} names`, { path });
    const pause = image.pace.pause(INODE_COST);
    if (pause !== undefined) yield pause;
    const inode = inodeNow(image, nid) ?? (yield* inodeSteps(image, nid));
    yield { path, name, depth, inode, last };
    if (inode.type === "directory") enter(path, depth + 1, inode);
  }
}

/** Goes on to the next block with a name in it; false at the end of the directory. */
function* nextBlock(directory: Open): Steps<boolean> {
  for (;;) {
    const { value, done } = directory.blocks.next();
    if (done === true) return false;
    if (value instanceof Promise) {
      yield value;
      continue;
    }
    directory.block = value;
    directory.index = 0;
    if (value.names.length > 0) return true;
  }
}

/** Refuses to list what is not a directory. */
export function assertDirectory(inode: Inode): void {
  if (inode.type !== "directory") {
    throw new ErofsError("EROFS_WRONG_TYPE", `expected a directory, got a ${inode.type}`, { offset: inode.offset });
  }
}
