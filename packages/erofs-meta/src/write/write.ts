import type { z } from "zod";
import type { ByteSink } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { INCOMPAT_INLINE_TAILS } from "../format/compression.ts";
import {
  COMPAT_PLAIN_XATTR_PREFIXES,
  COMPAT_XATTR_FILTER,
  INCOMPAT_CHUNKED_FILE,
  INCOMPAT_XATTR_PREFIXES,
} from "../format/superblock.ts";
import { parseUuid, viewOf } from "../internal/bytes.ts";
import { atomic } from "../internal/files.ts";
import { finish, type Steps } from "../internal/steps.ts";
import { type CompressionOptions, parseOptions, writeErofsOptions } from "../options.ts";
import type { ErofsImage } from "../read/image.ts";
import { BlockSpace } from "./block-space.ts";
import { BlockWriter } from "./block-writer.ts";
import { encodeIndex } from "./compressed-index.ts";
import { compressionOf } from "./compression.ts";
import type { ContentOutput } from "./content.ts";
import { encodeDirectory } from "./directory.ts";
import { encodeHead, encodeInode, headSize } from "./encode.ts";
import type { TreeEntries } from "./entry.ts";
import { ImageUuid } from "./image-uuid.ts";
import { isCompact, type Layout, layOut } from "./layout.ts";
import { readOldPlaces } from "./old-places.ts";
import { TreeBuilder } from "./tree.ts";
import { encodeNodeXattrs, XattrTable } from "./xattrs.ts";

/** How to write an image. */
export interface WriteErofsOptions {
  /** file to write (beside, then moved into place), or a sink whose unwritten bytes are zeros */
  readonly output: string | ByteSink;
  /** volume UUID; one that follows from the other bytes of the image unless given */
  readonly uuid?: string | undefined;
  /** when the image was built, `seconds` since 1970; what has this time and small ids takes half the room */
  readonly buildTime: bigint;
  /** fraction of `buildTime` in `nanoseconds`, 0 */
  readonly buildTimeNsec?: number | undefined;
  /** give everything the build time, whatever its entry says; false unless given */
  readonly fixedTime?: boolean | undefined;
  /** volume name, at most 16 bytes; empty unless given */
  readonly volumeName?: string | undefined;
  /** block size in `bytes`, a power of two in 512..65536, 4096; Linux mounts what is not larger than its pages */
  readonly blockSize?: number | undefined;
  /** leave out blocks of zeros, which Linux 5.15 and newer read; true unless given */
  readonly sparse?: boolean | undefined;
  /** most ends of files kept in memory until their inodes are written, in `bytes`; later ones take a block each */
  readonly maxTailBytes?: number | undefined;
  /** most entries, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  /** directories inside one another, the root included, {@link DEFAULT_MAX_DEPTH} */
  readonly maxDepth?: number | undefined;
  /**
   * starts of xattr names, such as `trusted.overlay.`, that are stored once instead of in each name, which Linux 6.4 and
   * newer read; at most 128
   */
  readonly xattrPrefixes?: readonly string[] | undefined;
  /** how to compress contents; they are stored as they are unless given */
  readonly compression?: CompressionOptions | undefined;
  /**
   * an older image of the same block size: what has the same path is put where it was there, as far as it fits, so that
   * few blocks differ; not closed
   */
  readonly like?: ErofsImage | undefined;
  /** threads that compress, one less than processors; the image is the same with any number, also 0 */
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was written. */
export interface WrittenErofs {
  /** image size in `bytes`, a whole number of blocks */
  readonly sizeBytes: number;
  /** how much of it are blocks that nothing is in, which only images have that are `like` others */
  readonly unusedBytes: number;
  /** number of inodes */
  readonly inodes: number;
  readonly uuid: string;
}

const NO_UUID = "00000000-0000-0000-0000-000000000000";

/**
 * Writes an EROFS image: contents first, in the order of the entries, then the metadata. Same entries and options, same
 * bytes. Contents are streamed and never held, ends of files up to `maxTailBytes` excepted; of the tree, the names and
 * attributes are in memory.
 *
 * @param entries - The tree, in any order; hard links may come before what they link to.
 * @param options - Time and where to write; see {@link WriteErofsOptions}.
 * @returns Size, number of inodes, and UUID.
 * @throws {ErofsError} `EROFS_BAD_OPTIONS`; `EROFS_BAD_TREE` for entries that contradict each other or contents that
 *   are not as long as they say; `EROFS_NOT_REPRESENTABLE` for what the format has no room for, such as a longer name;
 *   `EROFS_LIMIT`; `EROFS_DISK_FULL` and `EROFS_IO` from writing. No file is left then. An abort throws the signal's
 *   reason, and what the entries throw passes through.
 * @see Linux v6.12 `Documentation/filesystems/erofs.rst`, on-disk details
 * @example
 * await writeErofs(
 *   [{ type: "file", path: "/etc/hostname", content: new TextEncoder().encode("leveret\n") }],
 *   { output: "root.erofs", buildTime: 1_700_000_000n },
 * );
 */
export async function writeErofs(entries: TreeEntries, options: WriteErofsOptions): Promise<WrittenErofs> {
  const { output, ...rest } = parseOptions(writeErofsOptions, options);
  if (typeof output === "string") return atomic.write(output, (sink) => writeImage(entries, sink, rest));
  return writeImage(entries, output, rest);
}

type Settings = Omit<z.output<typeof writeErofsOptions>, "output">;

async function writeImage(entries: TreeEntries, sink: ByteSink, settings: Settings): Promise<WrittenErofs> {
  const { blockSize, signal, like } = settings;
  if (like !== undefined) assertSameBlocks(blockSize, like);
  const derived = settings.uuid === undefined ? new ImageUuid(sink) : undefined;
  const headBlocks = headSize(blockSize) / blockSize;
  const writer = new BlockWriter(derived ?? sink, blockSize, headBlocks);
  const xattrs = new XattrTable(settings.xattrPrefixes);
  // Before everything else, because their position has few bits.
  const prefixes = xattrs.encodePrefixes();
  const firstBlock = headBlocks + Math.ceil(prefixes.byteLength / blockSize);
  const old = like && (await readOldPlaces(like, firstBlock, settings));
  const space = new BlockSpace(old?.end ?? firstBlock, old?.holes);
  const output = { space, writer, old };
  const compression = compressionOf(settings);
  const compressing = compression?.placer(output);
  const builder = new TreeBuilder(settings, output, xattrs, compressing);
  let xattrBlock = 0;
  let layout: Layout;
  try {
    await finish(writeBlocks(writer, headBlocks, prefixes));
    for await (const entry of entries) {
      signal?.throwIfAborted();
      await finishUnless(signal, builder.add(entry));
    }
    if (compressing !== undefined) await finishUnless(signal, compressing.finish());
    const shared = xattrs.share(old?.sharedXattrs);
    xattrBlock = placeShared(shared, blockSize, output);
    layout = layOut(builder.root, { ...settings, space, old });
    placeDirectories(layout, blockSize, output);
    await finish(writeMetadata(writer, { shared, xattrBlock }, layout, settings));
    await writer.flush();
  } finally {
    await compressing?.close();
    await writer.settle();
  }
  signal?.throwIfAborted();

  const hasPrefixes = settings.xattrPrefixes.length > 0;
  const facts = {
    xattrBlock,
    metaBlock: layout.metaBlock,
    blockSize,
    rootNid: builder.root.nid,
    inodes: layout.nodes.length,
    buildTime: settings.buildTime,
    buildTimeNsec: settings.buildTimeNsec,
    blocks: writer.end / blockSize,
    volumeName: new TextEncoder().encode(settings.volumeName),
    compat:
      (layout.nodes.some((node) => node.xattrs.length > 0) ? COMPAT_XATTR_FILTER : 0) |
      (hasPrefixes ? COMPAT_PLAIN_XATTR_PREFIXES : 0),
    incompat: featuresOf(layout) | (compression?.incompat ?? 0) | (hasPrefixes ? INCOMPAT_XATTR_PREFIXES : 0),
    xattrPrefixes: { count: settings.xattrPrefixes.length, position: hasPrefixes ? headSize(blockSize) : 0 },
    compression: compression?.fields,
  };
  const headWith = (uuid: string): Uint8Array => encodeHead({ ...facts, uuid: parseUuid(uuid) });
  const uuid = settings.uuid ?? derived?.derive(headWith(NO_UUID)) ?? NO_UUID;
  await sink.write(0, headWith(uuid));
  const unusedBytes = writer.end - writer.used - headSize(blockSize);
  return { sizeBytes: writer.end, unusedBytes, inodes: layout.nodes.length, uuid };
}

/** Runs steps to their end, or until it is called off: there may be terabytes of zeros, which take no writing. */
async function finishUnless(signal: AbortSignal | undefined, steps: Steps<void>): Promise<void> {
  for (const step of steps) {
    await step;
    signal?.throwIfAborted();
  }
}

/** Refuses an older image that says nothing about places in this one. */
function assertSameBlocks(blockSize: number, like: ErofsImage): void {
  if (like.superblock.blockSize === blockSize) return;
  const message = `expected an older image with blocks of ${blockSize} bytes, got ${like.superblock.blockSize}`;
  throw new ErofsError("EROFS_BAD_OPTIONS", message, { hint: "give this image the block size of the older one" });
}

/** Features that nodes have and readers have to know. */
function featuresOf({ nodes }: Layout): number {
  let features = 0;
  for (const { placement } of nodes) {
    if (placement.layout === "chunk") features |= INCOMPAT_CHUNKED_FILE;
    if ("map" in placement && placement.tail.byteLength > 0) features |= INCOMPAT_INLINE_TAILS;
  }
  return features;
}

/** The start of the shared xattrs in `blocks`; 0 when there are none. */
function placeShared(shared: Uint8Array, blockSize: number, { space, old }: ContentOutput): number {
  if (shared.byteLength === 0) return 0;
  const count = Math.ceil(shared.byteLength / blockSize);
  const course = space.course(count, old && { runs: old.sharedRuns, isSparse: false });
  const { block } = course.take(count, count);
  course.end();
  return block;
}

/** Directories that do not fit behind their inodes have blocks of their own. */
function placeDirectories({ directories }: Layout, blockSize: number, { space, old }: ContentOutput): void {
  for (const { node, names } of directories) {
    const { layout } = node.placement;
    const count = layout === "inline" ? Math.floor(node.size / blockSize) : Math.ceil(node.size / blockSize);
    const course = space.course(count, old?.takeContent(node.path));
    const block = count === 0 ? 0 : course.take(count, count).block;
    course.end();
    if (layout === "inline") {
      const tail = Uint8Array.from(encodeDirectory(names, blockSize).subarray(count * blockSize));
      node.placement = { layout, block, tail };
    } else node.placement = { layout: "plain", block };
  }
}

function* writeMetadata(
  writer: BlockWriter,
  { shared, xattrBlock }: { readonly shared: Uint8Array; readonly xattrBlock: number },
  layout: Layout,
  settings: Settings,
): Steps<void> {
  yield* writeBlocks(writer, xattrBlock, shared);
  yield* writeInodes(writer, layout, settings);
  yield* writeDirectories(writer, layout, settings.blockSize);
}

/** Writes whole blocks, if anything. */
function* writeBlocks(writer: BlockWriter, block: number, bytes: Uint8Array): Steps<void> {
  if (bytes.byteLength === 0) return;
  yield* writer.moveTo(block);
  yield* writer.write(bytes);
  yield* writer.pad();
}

function* writeInodes(writer: BlockWriter, { nodes, metaBlock }: Layout, settings: Settings): Steps<void> {
  const { blockSize } = settings;
  let block = -1;
  for (const node of nodes) {
    const position = metaBlock * blockSize + node.offset;
    if (block === -1 || Math.ceil(writer.position / blockSize) * blockSize <= position) {
      block = Math.floor(position / blockSize);
      yield* writer.pad();
      yield* writer.moveTo(block);
    }
    yield* writer.skip(position - writer.position);
    const area = encodeNodeXattrs(node);
    const inode = encodeInode(node, isCompact(node, settings), area.byteLength);
    yield* writer.write(inode);
    yield* writer.write(area);
    const { placement } = node;
    if ("map" in placement) {
      yield* writer.write(encodeIndex(inode.byteLength + area.byteLength, placement, blockSize));
    }
    if ("tail" in placement) yield* writer.write(placement.tail);
    if (placement.layout === "chunk") {
      const map = new Uint8Array(placement.blocks.length * 4);
      const view = viewOf(map);
      for (const [index, block] of placement.blocks.entries()) view.setUint32(index * 4, block, true);
      yield* writer.write(map);
    }
  }
  yield* writer.pad();
}

function* writeDirectories(writer: BlockWriter, { directories }: Layout, blockSize: number): Steps<void> {
  for (const { node, names } of directories) {
    const { placement } = node;
    const inBlocks = placement.layout === "inline" ? Math.floor(node.size / blockSize) * blockSize : node.size;
    if (inBlocks === 0 || !("block" in placement)) continue;
    yield* writeBlocks(writer, placement.block, encodeDirectory(names, blockSize).subarray(0, inBlocks));
  }
}
