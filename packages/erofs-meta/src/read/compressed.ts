import { ErofsError } from "../errors.ts";
import { INCOMPAT_ZERO_PADDING } from "../format/compression.ts";
import { BoundedMap } from "../internal/bounded-map.ts";
import type { Steps, Stream } from "../internal/steps.ts";
import { type StoredExtent, storedExtentsOf } from "./compressed-map.ts";
import type { ContentRange, DataPiece, Extent, ImageParts } from "./content.ts";
import { type DecodeContext, decodeExtent } from "./decode-extent.ts";
import type { Inode } from "./inode.ts";

/** Content gathered before it is handed out. */
const PIECE_SIZE = 1024 * 1024;
/** Decoding takes about that much longer than copying. */
const PACE_FACTOR = 4;

/**
 * Streams a compressed inode's content in pieces of some MiB at most, without its holes.
 *
 * @param range - Part of the content in `bytes`, inside it.
 */
export function* compressedDataOf(image: ImageParts, inode: Inode, range: ContentRange): Stream<DataPiece> {
  const context = contextOf(image);
  let piece: Uint8Array = new Uint8Array(0);
  let filled = 0;
  let start = range.start;
  for (const batch of storedExtentsOf(image, inode)) {
    if (batch instanceof Promise) {
      yield batch;
      continue;
    }
    for (const extent of batch) {
      if (extent.start + extent.length <= range.start) continue;
      if (extent.start >= range.end) break;
      const isHole = extent.where === "nowhere";
      if (isHole || (filled > 0 && filled + Math.min(extent.length, range.end - extent.start) > piece.byteLength)) {
        if (filled > 0) yield { start, bytes: piece.subarray(0, filled) };
        start = isHole ? extent.start + extent.length : start + filled;
        filled = 0;
        piece = new Uint8Array(0);
      }
      if (isHole) continue;
      const skip = Math.max(0, range.start - extent.start);
      const length = Math.min(extent.length, range.end - extent.start);
      if (piece.byteLength === 0) {
        const size = Math.max(length, Math.min(PIECE_SIZE, range.end - extent.start));
        piece = (range.reuse && context.lz4.memory(size)) || image.content.allocate(size, range.reuse);
      }
      const target = piece.subarray(filled, filled + length);
      const pause = image.pace.pause(PACE_FACTOR * length);
      if (pause !== undefined) yield pause;
      switch (extent.where) {
        case "packed":
          yield* (yield* image.packed()).read(extent.position, target);
          break;
        case "beside": {
          const stored = yield* image.metabox.around(inode).read(extent.position, extent.storedLength);
          decodeExtent(extent, stored, target, context);
          break;
        }
        case "image": {
          const { device, position } = image.devices.locate(extent.position);
          if (device > 0) image.devices.assertInside({ device, position }, extent.storedLength, inode.offset);
          const reader = image.devices.reader(device);
          const stored =
            reader.found(position, extent.storedLength) ?? (yield* reader.view(position, extent.storedLength));
          decodeExtent(extent, stored, target, context);
        }
      }
      if (skip > 0) target.copyWithin(0, skip);
      filled += length - skip;
    }
    if ((batch.at(-1)?.start ?? 0) >= range.end) break;
  }
  if (filled > 0) yield { start, bytes: piece.subarray(0, filled) };
}

/** Most extents of a packed inode kept in memory, enough for one of 2 GiB at least. */
const MAX_PACKED_EXTENTS = 2 ** 20;
/** Decoded extents kept, so that neighbouring fragments cost one decoding. */
const MAX_DECODED = 4;

/** Content that is read at random: of the packed inode, of which fragments are parts, and of the metadata box. */
export class PackedContent {
  readonly #image: ImageParts;
  readonly #inode: Inode;
  readonly #decoded = new BoundedMap<number, Uint8Array>(MAX_DECODED);
  readonly #list: () => Steps<StoredExtent[]>;
  #extents: StoredExtent[] | undefined;

  /** @param uncompressed - where the content lies in the image when it is not compressed */
  constructor(image: ImageParts, inode: Inode, uncompressed: () => Stream<Extent>) {
    this.#image = image;
    this.#inode = inode;
    const isCompressed = inode.layout.startsWith("compressed");
    this.#list = () => listed(isCompressed ? storedExtentsOf(image, inode) : storedPlainly(uncompressed()), inode);
  }

  /** Fills `target` with content from `position` on. */
  *read(position: number, target: Uint8Array): Steps<void> {
    const end = position + target.byteLength;
    if (BigInt(end) > this.#inode.sizeBytes) {
      const message = `expected bytes of the ${this.#inode.sizeBytes} that are packed, got ${position}..${end}`;
      throw new ErofsError("EROFS_CORRUPT", message, { offset: this.#inode.offset });
    }
    this.#extents ??= yield* this.#list();
    const extents = this.#extents;
    let index = lastStartingAt(extents, position);
    for (let at = position; at < end; index += 1) {
      const extent = extents[index];
      if (extent === undefined) throw new Error("bug: packed extents do not cover the packed content");
      const from = at - extent.start;
      const length = Math.min(extent.length - from, end - at);
      const part = target.subarray(at - position, at - position + length);
      if (extent.where === "nowhere") part.fill(0);
      else part.set((yield* this.#decode(extent)).subarray(from, from + length));
      at += length;
    }
  }

  *#decode(extent: StoredExtent): Steps<Uint8Array> {
    const known = this.#decoded.get(extent.start);
    if (known !== undefined) return known;
    const stored = yield* this.#image.metadata.read(extent.position, extent.storedLength);
    const decoded = new Uint8Array(extent.length);
    decodeExtent(extent, stored, decoded, contextOf(this.#image));
    this.#decoded.set(extent.start, decoded);
    return decoded;
  }
}

function* listed(batches: Stream<StoredExtent[]>, { offset }: Inode): Steps<StoredExtent[]> {
  const extents: StoredExtent[] = [];
  for (const batch of batches) {
    if (batch instanceof Promise) {
      yield batch;
      continue;
    }
    if (batch.some(({ where }) => where === "packed")) {
      throw new ErofsError("EROFS_CORRUPT", "expected packed content without fragments, got one of itself", { offset });
    }
    if (extents.length + batch.length > MAX_PACKED_EXTENTS) {
      throw new ErofsError("EROFS_LIMIT", `expected at most ${MAX_PACKED_EXTENTS} packed extents`, { offset });
    }
    for (const extent of batch) extents.push(extent);
  }
  return extents;
}

/** Uncompressed content as extents of a size that is worth keeping in memory. */
function* storedPlainly(extents: Stream<Extent>): Stream<StoredExtent[]> {
  for (const extent of extents) {
    if (extent instanceof Promise) {
      yield extent;
      continue;
    }
    const { start, length, position, device } = extent;
    if (device !== undefined) throw new ErofsError("EROFS_UNSUPPORTED", "cannot read packed content on another device");
    for (let at = 0; at < length; at += PIECE_SIZE) {
      const size = Math.min(PIECE_SIZE, length - at);
      const place = { start: start + at, length: size, position: (position ?? 0) + at, storedLength: size };
      yield [{ ...place, encoding: "none", where: position === undefined ? "nowhere" : "image" }];
    }
  }
}

function lastStartingAt(extents: readonly StoredExtent[], position: number): number {
  let low = 0;
  let high = extents.length;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((extents[middle]?.start ?? 0) <= position) low = middle;
    else high = middle;
  }
  return low;
}

function contextOf({ superblock, lz4 }: ImageParts): DecodeContext {
  return {
    blockSize: superblock.blockSize,
    isZeroPadded: (superblock.rawFeatures.incompat & INCOMPAT_ZERO_PADDING) !== 0,
    lz4,
  };
}
