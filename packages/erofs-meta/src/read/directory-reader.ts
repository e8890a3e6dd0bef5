import { DIRENT } from "../format/directory.ts";
import { WIDE_NULL_BLOCK } from "../format/inode.ts";
import { viewOf } from "../internal/bytes.ts";
import type { Steps, Stream } from "../internal/steps.ts";
import { contentOf, type ImageParts, tailPosition } from "./content.ts";
import { scanDirectoryBlock } from "./directory.ts";
import { type Inode, isInMetabox } from "./inode.ts";

/** The names of one directory block, `.` and `..` left out, with the node number of each. */
export interface DirectoryBlock {
  readonly names: readonly string[];
  readonly nids: readonly bigint[];
}

/** Streams a directory's names block by block. */
export function* directoryBlocks(image: ImageParts, directory: Inode): Stream<DirectoryBlock> {
  const { blockSize } = image.superblock;
  const size = Number(directory.sizeBytes);
  const isPlain = directory.layout === "plain" && directory.rawData !== WIDE_NULL_BLOCK;
  const isSimple = (isPlain || directory.layout === "inline") && !isInMetabox(directory.nid);
  if (!isSimple || blockSize > image.metadata.maxFound) {
    let at = 0;
    for (const piece of contentOf(image, directory, { start: 0, end: size })) {
      if (piece instanceof Promise) {
        yield piece;
        continue;
      }
      const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      const view = viewOf(piece);
      for (let start = 0; start < piece.byteLength; start += blockSize) {
        const length = Math.min(blockSize, piece.byteLength - start);
        yield namesIn(bytes, view, start, length, at + start);
      }
      at += piece.byteLength;
    }
    return;
  }
  for (let at = 0; at < size; at += blockSize) {
    const length = Math.min(blockSize, size - at);
    const isTail = directory.layout === "inline" && length < blockSize;
    const position = isTail ? tailPosition(image, directory, length) : directory.rawData * blockSize + at;
    const start: number = yield* image.metadata.locate(position, length);
    yield namesIn(image.metadata.bytes, image.metadata.view, start, length, at);
  }
}

/** Finds a name in a directory. */
export function* childOf(image: ImageParts, directory: Inode, name: string): Steps<bigint | undefined> {
  for (const block of directoryBlocks(image, directory)) {
    if (block instanceof Promise) {
      yield block;
      continue;
    }
    const index = block.names.indexOf(name);
    if (index !== -1) return block.nids[index];
  }
  return undefined;
}

function namesIn(bytes: Buffer, view: DataView, start: number, length: number, offset: number): DirectoryBlock {
  const names: string[] = [];
  const nids: bigint[] = [];
  scanDirectoryBlock({ bytes, view, start, length, offset }, (name, at) => {
    if (name === "." || name === "..") return;
    names.push(name);
    nids.push(view.getBigUint64(at + DIRENT.nid, true));
  });
  return { names, nids };
}
