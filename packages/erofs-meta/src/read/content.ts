import type { BlockSource } from "../block-source.ts";
import type { Lz4Decoder } from "../codecs/lz4-wasm.ts";
import { ErofsError } from "../errors.ts";
import {
  CHUNK_BLOCK_BITS_MASK,
  CHUNK_HAS_INDEXES,
  CHUNK_INDEX,
  CHUNK_INDEX_SIZE,
  CHUNK_KNOWN,
  CHUNK_MAP_ENTRY_SIZE,
  CHUNK_WIDE,
  NULL_BLOCK,
  WIDE_NULL_BLOCK,
} from "../format/inode.ts";
import { safeNumber, viewOf } from "../internal/bytes.ts";
import type { Steps, Stream } from "../internal/steps.ts";
import { compressedDataOf, type PackedContent } from "./compressed.ts";
import { type Encoding, type StoredExtent, storedExtentsOf } from "./compressed-map.ts";
import type { DevicePlace, Devices } from "./devices.ts";
import { type Inode, inodeTail, isInMetabox } from "./inode.ts";
import type { Metabox } from "./metabox.ts";
import type { MetadataCache } from "./metadata-cache.ts";
import { INODE_COST, type Pace } from "./pace.ts";
import type { ContentReader } from "./read-ahead.ts";
import type { Superblock } from "./superblock.ts";

/** What content and directory readers need of an open image. */
export interface ImageParts {
  readonly source: BlockSource;
  readonly metadata: MetadataCache;
  readonly superblock: Superblock;
  /** content on the image itself */
  readonly content: ContentReader;
  readonly devices: Devices;
  readonly pace: Pace;
  readonly lz4: Lz4Decoder;
  /** inodes that are elsewhere than in the image itself */
  readonly metabox: Metabox;
  /** content that fragments are parts of */
  packed(): Steps<PackedContent>;
}

/**
 * A run of an inode's content that is in one place: in the image, in the packed inode or the metadata box, or nowhere,
 * being a hole.
 */
export interface Extent {
  /** position in the content in `bytes` */
  readonly start: number;
  /** length in `bytes` */
  readonly length: number;
  /** position in the image in `bytes`; absent for what is elsewhere and for a hole, which reads as zeros */
  readonly position?: number;
  /** number of the extra device that `position` is on, the first one being 1; absent for the image itself */
  readonly device?: number;
  /** how it is stored at `position`, and in how many `bytes`; absent where content is stored as it is */
  readonly stored?: { readonly encoding: Encoding; readonly length: number };
  /** position in the packed inode's content in `bytes`, for a fragment */
  readonly packedPosition?: number;
  /** position in the metadata box in `bytes`, for what is beside an inode there */
  readonly boxPosition?: number;
}

const READ_SIZE = 1024 * 1024;
/** Content up to this size comes in one piece, wherever its parts lie. */
const ONE_PIECE_SIZE = 64 * 1024;
/** chunk map entries decoded per read */
const MAP_BATCH = 4096;

/**
 * Lists where an inode's content lies, in order, covering all of it.
 *
 * @throws {ErofsError} `EROFS_NOT_FOUND` for data on an extra device that was not given.
 */
export function* extentsOf(image: ImageParts, inode: Inode): Stream<Extent> {
  const size = safeNumber(inode.sizeBytes, "a content size", inode.offset);
  switch (inode.layout) {
    case "plain":
      if (size > 0) yield checked(image, inode, { start: 0, length: size, ...firstBlockOf(image, inode) });
      return;
    case "inline":
      yield* inlineExtents(image, inode, size);
      return;
    case "chunk":
      yield* chunkExtents(image, inode, size);
      return;
    case "compressed-full":
    case "compressed-compact":
      for (const batch of storedExtentsOf(image, inode)) {
        if (batch instanceof Promise) yield batch;
        else for (const extent of batch) yield publicExtent(image, inode, extent);
      }
  }
}

function publicExtent(
  image: ImageParts,
  inode: Inode,
  { start, length, position, where, encoding, storedLength }: StoredExtent,
): Extent {
  const stored = { encoding, length: storedLength };
  switch (where) {
    case "nowhere":
      return { start, length };
    case "packed":
      return { start, length, packedPosition: position };
    case "beside":
      return { start, length, ...(isInMetabox(inode.nid) ? { boxPosition: position } : { position }), stored };
    case "image":
      return { start, length, ...positionOf(image.devices.locate(position)), stored };
  }
}

function positionOf({ device, position }: DevicePlace): Pick<Extent, "position" | "device"> {
  return device === 0 ? { position } : { position, device };
}

/** Where content starts that is not compressed. */
function firstBlockOf(image: ImageParts, inode: Inode): Pick<Extent, "position" | "device"> {
  return inode.rawData === WIDE_NULL_BLOCK ? {} : placeOf(image, inode, 0, inode.rawData);
}

/** What content is read, and for whom. */
export interface ContentRange {
  /** part of the content in `bytes` */
  readonly start: number;
  readonly end: number;
  /** pieces are valid until anything else is read or the image is closed, instead of being the caller's to keep */
  readonly reuse?: boolean | undefined;
}

/** Streams an inode's content in pieces of some MiB at most, holes as zeros. */
export function* contentOf(image: ImageParts, inode: Inode, range: ContentRange): Stream<Uint8Array> {
  if (inode.layout === "compressed-full" || inode.layout === "compressed-compact") {
    let at = range.start;
    for (const piece of compressedDataOf(image, inode, range)) {
      if (piece instanceof Promise) {
        yield piece;
        continue;
      }
      yield* zeros(image, piece.start - at);
      yield piece.bytes;
      at = piece.start + piece.bytes.byteLength;
    }
    yield* zeros(image, range.end - at);
    return;
  }
  if (inode.layout === "inline" && range.end - range.start <= ONE_PIECE_SIZE) {
    if (range.end > range.start) yield yield* inOnePiece(image, inode, range);
    return;
  }
  for (const extent of extentsOf(image, inode)) {
    if (extent instanceof Promise) {
      yield extent;
      continue;
    }
    const end = Math.min(extent.start + extent.length, range.end);
    let at = Math.max(extent.start, range.start);
    if (extent.start >= range.end) return;
    while (at < end) {
      const length = Math.min(READ_SIZE, end - at);
      const pause = image.pace.pause(length);
      if (pause !== undefined) yield pause;
      const { boxPosition, position, device = 0 } = extent;
      const from = at - extent.start;
      let piece: Uint8Array;
      if (boxPosition !== undefined) piece = yield* image.metabox.around(inode).read(boxPosition + from, length);
      else if (position === undefined) piece = new Uint8Array(length);
      else piece = yield* image.devices.reader(device).some(position + from, length, range.reuse === true);
      yield piece;
      at += piece.byteLength;
    }
  }
}

/** A hole as content. */
function* zeros(image: ImageParts, length: number): Stream<Uint8Array> {
  for (let left = length; left > 0; left -= READ_SIZE) {
    const size = Math.min(READ_SIZE, left);
    const pause = image.pace.pause(size);
    if (pause !== undefined) yield pause;
    yield new Uint8Array(size);
  }
}

/** Content of which a part lies behind the inode: that part is at hand already. */
function* inOnePiece(image: ImageParts, inode: Inode, { start, end, reuse }: ContentRange): Steps<Uint8Array> {
  const pause = image.pace.pause(end - start + INODE_COST);
  if (pause !== undefined) yield pause;
  const size = safeNumber(inode.sizeBytes, "a content size", inode.offset);
  const tailLength = size % image.superblock.blockSize;
  const tailStart = size - tailLength;
  const piece = image.content.allocate(end - start, reuse);
  const headEnd = Math.min(end, tailStart);
  if (start < headEnd) {
    const { position, device = 0 } = firstBlockOf(image, inode);
    if (position === undefined) piece.fill(0, 0, headEnd - start);
    else {
      image.devices.assertInside({ device, position }, tailStart, inode.offset);
      const reader = image.devices.reader(device);
      const length = headEnd - start;
      piece.set(reader.found(position + start, length) ?? (yield* reader.view(position + start, length)));
    }
  }
  if (tailStart < end) {
    const from = Math.max(start, tailStart);
    const position = tailPosition(image, inode, tailLength) + from - tailStart;
    yield* image.metabox.around(inode).readInto(piece.subarray(from - start), position);
  }
  return piece;
}

/** A piece of content with its place in it. */
export interface DataPiece {
  /** position in the content in `bytes` */
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** Streams an inode's content without its holes, in pieces of some MiB at most. */
export function* dataOf(image: ImageParts, inode: Inode, reuse: boolean): Stream<DataPiece> {
  const end = safeNumber(inode.sizeBytes, "a content size", inode.offset);
  if (inode.layout === "compressed-full" || inode.layout === "compressed-compact") {
    yield* compressedDataOf(image, inode, { start: 0, end, reuse });
    return;
  }
  if (inode.layout === "inline") {
    let start = 0;
    for (const bytes of contentOf(image, inode, { start, end, reuse })) {
      if (bytes instanceof Promise) {
        yield bytes;
        continue;
      }
      yield { start, bytes };
      start += bytes.byteLength;
    }
    return;
  }
  for (const extent of extentsOf(image, inode)) {
    if (extent instanceof Promise) {
      yield extent;
      continue;
    }
    const { start, length, position, device = 0 } = extent;
    if (position === undefined) continue;
    for (let at = 0; at < length; ) {
      const bytes = yield* image.devices.reader(device).some(position + at, Math.min(READ_SIZE, length - at), reuse);
      yield { start: start + at, bytes };
      at += bytes.byteLength;
    }
  }
}

function placeOf(image: ImageParts, inode: Inode, id: number, block: number): Pick<Extent, "position" | "device"> {
  return positionOf(image.devices.place(id, block, inode.offset));
}

/** The extents of an inline inode, which are known without reading anything. */
function* inlineExtents(image: ImageParts, inode: Inode, size: number): Generator<Extent> {
  const { blockSize } = image.superblock;
  const tailStart = Math.floor(size / blockSize) * blockSize;
  const tailLength = size - tailStart;
  if (tailStart > 0) {
    yield checked(image, inode, { start: 0, length: tailStart, ...placeOf(image, inode, 0, inode.rawData) });
  }
  if (tailLength === 0) return;
  const position = tailPosition(image, inode, tailLength);
  const tail = { start: tailStart, length: tailLength };
  if (isInMetabox(inode.nid)) yield { ...tail, boxPosition: position };
  else yield checked(image, inode, { ...tail, position });
}

/** Where the end of an inline inode's content lies. */
export function tailPosition({ superblock }: ImageParts, inode: Inode, length: number): number {
  const position = inodeTail(inode);
  if ((position % superblock.blockSize) + length > superblock.blockSize) {
    throw new ErofsError("EROFS_CORRUPT", `expected ${length} inline bytes inside one block, got more`, {
      offset: position,
    });
  }
  return position;
}

function* chunkExtents(image: ImageParts, inode: Inode, size: number): Stream<Extent> {
  const format = inode.rawData & 0xffff;
  if ((format & ~CHUNK_KNOWN) !== 0) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected a chunk format below 0x80, got 0x${format.toString(16)}`, {
      offset: inode.offset,
    });
  }
  const { blockSize } = image.superblock;
  const chunkSize = blockSize * 2 ** (format & CHUNK_BLOCK_BITS_MASK);
  const chunks = Math.ceil(size / chunkSize);
  const entrySize = (format & CHUNK_HAS_INDEXES) === 0 ? CHUNK_MAP_ENTRY_SIZE : CHUNK_INDEX_SIZE;
  const isWide = (format & CHUNK_WIDE) !== 0;
  const map = Math.ceil(inodeTail(inode) / entrySize) * entrySize;
  const metadata = image.metabox.around(inode);
  // Neighbouring chunks are joined, so that a file stored in one piece is read in one piece.
  let pending: Extent | undefined;
  for (let first = 0; first < chunks; first += MAP_BATCH) {
    const count = Math.min(MAP_BATCH, chunks - first);
    const entries = viewOf(yield* metadata.read(map + first * entrySize, count * entrySize));
    for (let index = 0; index < count; index += 1) {
      const start = (first + index) * chunkSize;
      const { device, block } = chunkAt(entries, index, entrySize, isWide);
      const extent = {
        start,
        length: Math.min(chunkSize, size - start),
        ...(block !== undefined && placeOf(image, inode, device, block)),
      };
      if (pending !== undefined && !isFollowedBy(pending, extent)) {
        yield checked(image, inode, pending);
        pending = undefined;
      }
      pending = pending === undefined ? extent : { ...pending, length: pending.length + extent.length };
    }
  }
  if (pending !== undefined) yield checked(image, inode, pending);
}

/** Device and block of a chunk, no block for a hole. */
function chunkAt(
  entries: DataView,
  index: number,
  entrySize: number,
  isWide: boolean,
): { device: number; block: number | undefined } {
  const at = index * entrySize;
  const hasIndexes = entrySize === CHUNK_INDEX_SIZE;
  const low = entries.getUint32(at + (hasIndexes ? CHUNK_INDEX.block : 0), true);
  const high = hasIndexes && isWide ? entries.getUint16(at + CHUNK_INDEX.blockHigh, true) : 0;
  const isHole = low === NULL_BLOCK && (!(hasIndexes && isWide) || high === 0xffff);
  return {
    device: hasIndexes ? entries.getUint16(at + CHUNK_INDEX.deviceId, true) : 0,
    block: isHole ? undefined : low + high * 2 ** 32,
  };
}

function isFollowedBy(extent: Extent, next: Extent): boolean {
  if (extent.position === undefined) return next.position === undefined;
  return next.device === extent.device && next.position === extent.position + extent.length;
}

function checked(image: ImageParts, inode: Inode, extent: Extent): Extent {
  const { position, device = 0, length } = extent;
  if (position !== undefined) image.devices.assertInside({ device, position }, length, inode.offset);
  return extent;
}
