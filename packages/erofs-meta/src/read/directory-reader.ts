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
    for (const block of inBlocks(contentOf(image, directory, { start: 0, end: size }), blockSize)) {
      if (block instanceof Promise) {
        yield block;
        continue;
      }
      const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
      yield namesIn(bytes, viewOf(block), 0, block.byteLength, at);
      at += block.byteLength;
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

/** Cuts content, which comes in pieces of any size, into blocks; the last one may be shorter. */
export function* inBlocks(pieces: Stream<Uint8Array>, blockSize: number): Stream<Uint8Array> {
  let rest: Uint8Array = new Uint8Array(0);
  for (const piece of pieces) {
    if (piece instanceof Promise) {
      yield piece;
      continue;
    }
    const bytes = rest.byteLength === 0 ? piece : new Uint8Array(Buffer.concat([rest, piece]));
    const whole = bytes.byteLength - (bytes.byteLength % blockSize);
    for (let at = 0; at < whole; at += blockSize) yield bytes.subarray(at, at + blockSize);
    rest = bytes.subarray(whole);
  }
  if (rest.byteLength > 0) yield rest;
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
