import { ErofsError } from "../errors.ts";
import { NULL_BLOCK } from "../format/inode.ts";
import type { BlockWriter } from "./block-writer.ts";
import type { ContentStream } from "./entry.ts";
import type { Placement } from "./node.ts";

/** Most chunks a file is divided into: larger files have larger chunks. */
const MAX_CHUNKS = 2 ** 18;

/** What decides how contents are laid out. */
export interface ContentOptions {
  readonly blockSize: number;
  /** leave out chunks of zeros */
  readonly sparse: boolean;
  /** bytes of tails that may still be kept for the inodes */
  tailBytesLeft: number;
  /** longest tail that fits behind an inode */
  readonly maxTail: number;
}

/** Writes content as it comes, chunk by chunk, and returns where it went. */
export async function placeContent(
  writer: BlockWriter,
  content: Uint8Array | ContentStream,
  path: string,
  options: ContentOptions,
): Promise<Placement> {
  const { blockSize } = options;
  const size = content instanceof Uint8Array ? content.byteLength : content.sizeBytes;
  const blocks = Math.ceil(size / blockSize);
  const chunkBits = Math.max(0, Math.ceil(Math.log2(blocks / MAX_CHUNKS)));
  const chunkSize = blockSize * 2 ** chunkBits;
  const tailSize = size % blockSize;
  const first = writer.block;
  const starts: number[] = [];
  let hasHoles = false;
  for await (const chunk of chunksOf(content, chunkSize, path)) {
    const isLast = chunk.byteLength < chunkSize;
    if (options.sparse && !isLast && isAllZero(chunk)) {
      hasHoles = true;
      starts.push(NULL_BLOCK);
      continue;
    }
    if (isLast && !hasHoles && tailSize > 0 && tailSize <= options.maxTail && tailSize <= options.tailBytesLeft) {
      options.tailBytesLeft -= tailSize;
      await writer.write(chunk.subarray(0, chunk.byteLength - tailSize));
      return { layout: "inline", block: first, tail: chunk.slice(chunk.byteLength - tailSize) };
    }
    starts.push(writer.block);
    await writer.write(chunk);
    await writer.pad();
  }
  if (!hasHoles) return { layout: "plain", block: size === 0 ? 0 : first };
  return { layout: "chunk", chunkBits, blocks: Uint32Array.from(starts) };
}

/** Cuts content into chunks of exactly `chunkSize`, the last one shorter and not empty. */
async function* chunksOf(
  content: Uint8Array | ContentStream,
  chunkSize: number,
  path: string,
): AsyncGenerator<Uint8Array> {
  if (content instanceof Uint8Array) {
    for (let at = 0; at < content.byteLength; at += chunkSize) yield content.subarray(at, at + chunkSize);
    return;
  }
  const { sizeBytes } = content;
  let partial = new Uint8Array(0);
  let filled = 0;
  let seen = 0;
  for await (const piece of content.read()) {
    seen += piece.byteLength;
    if (seen > sizeBytes) throw wrongSize(path, sizeBytes, `${seen} bytes or more`);
    let from = 0;
    while (from < piece.byteLength) {
      if (filled === 0 && piece.byteLength - from >= chunkSize) {
        yield piece.subarray(from, from + chunkSize);
        from += chunkSize;
        continue;
      }
      if (partial.byteLength === 0) partial = new Uint8Array(Math.min(chunkSize, sizeBytes));
      const count = Math.min(partial.byteLength - filled, piece.byteLength - from);
      partial.set(piece.subarray(from, from + count), filled);
      filled += count;
      from += count;
      if (filled === chunkSize) {
        yield partial;
        filled = 0;
      }
    }
  }
  if (seen < sizeBytes) throw wrongSize(path, sizeBytes, `${seen} bytes`);
  if (filled > 0) yield partial.subarray(0, filled);
}

function wrongSize(path: string, expected: number, got: string): ErofsError {
  return new ErofsError("EROFS_BAD_TREE", `expected ${expected} bytes of content, got ${got}`, {
    path,
    hint: "the content must not change while the image is written",
  });
}

const ZEROS = Buffer.alloc(64 * 1024);

function isAllZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.byteLength; at += ZEROS.byteLength) {
    const end = Math.min(bytes.byteLength, at + ZEROS.byteLength);
    if (ZEROS.compare(bytes, at, end, 0, end - at) !== 0) return false;
  }
  return true;
}
