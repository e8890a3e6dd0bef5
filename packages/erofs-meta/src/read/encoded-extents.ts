import { ErofsError } from "../errors.ts";
import {
  ADVISE_EXTENT_SIZE_MASK,
  ADVISE_EXTENT_SIZE_SHIFT,
  ADVISE_FRAGMENT_TAIL,
  ADVISE_INTERLACED,
  EXTENT_ALGORITHM_SHIFT,
  EXTENT_BASE_SIZE,
  EXTENT_LENGTH_MASK,
  EXTENT_RECORD,
  MAX_DECODED_EXTENT_SIZE,
  MAX_STORED_EXTENT_SIZE,
} from "../format/compression.ts";
import { COMPRESSION_ALGORITHMS } from "../format/superblock.ts";
import { safeNumber, viewOf } from "../internal/bytes.ts";
import type { Stream } from "../internal/steps.ts";
import type { MapHeader, StoredExtent } from "./compressed-map.ts";
import type { ImageParts } from "./content.ts";
import type { Inode } from "./inode.ts";

/** records decoded per read */
const BATCH = 1024;

/** One record: where an extent starts in the content and in the image, and its word of length and algorithm. */
interface ExtentRecord {
  readonly start: number;
  readonly position: number;
  readonly word: number;
}

/**
 * Streams the extents of a compressed inode that lists them instead of having an index for each cluster.
 *
 * @throws {ErofsError} `EROFS_CORRUPT` for extents out of order or beyond what Linux decodes, `EROFS_UNSUPPORTED` for an
 *   unknown algorithm.
 * @see Linux v6.18 `fs/erofs/zmap.c`, `z_erofs_map_blocks_ext`
 */
export function* encodedExtents(image: ImageParts, inode: Inode, header: MapHeader): Stream<StoredExtent[]> {
  const size = safeNumber(inode.sizeBytes, "a content size", inode.offset);
  const recordSize = extentRecordSize(header);
  const records = recordSize <= EXTENT_RECORD.positionHigh ? clusterRecords : placedRecords;
  let last: ExtentRecord | undefined;
  for (const batch of records(image, inode, header, recordSize, size)) {
    if (batch instanceof Promise) {
      yield batch;
      continue;
    }
    for (const record of batch) {
      // What is before the first extent is a hole.
      if (last === undefined && record.start > 0) yield [holeAt(0, record.start)];
      if (last !== undefined) yield [extentOf(image, inode, header, last, record.start, false)];
      last = record;
    }
  }
  if (last === undefined) yield [holeAt(0, size)];
  else yield [extentOf(image, inode, header, last, size, recordSize > EXTENT_RECORD.position)];
}

/** Length of one record of a list of extents in `bytes`. */
export function extentRecordSize({ advise }: MapHeader): number {
  return 4 << ((advise >> ADVISE_EXTENT_SIZE_SHIFT) & ADVISE_EXTENT_SIZE_MASK);
}

function extentOf(
  image: ImageParts,
  inode: Inode,
  { advise }: MapHeader,
  { start, position, word }: ExtentRecord,
  end: number,
  hasWidePosition: boolean,
): StoredExtent {
  const length = end - start;
  const isLast = end === Number(inode.sizeBytes);
  if (isLast && (advise & ADVISE_FRAGMENT_TAIL) !== 0) {
    // The word is the lower half of a fragment's position, and what is a position elsewhere the upper one.
    const place = word + (hasWidePosition ? (position % 2 ** 32) * 2 ** 32 : 0);
    return { start, length, encoding: "none", position: place, storedLength: 0, where: "packed" };
  }
  const storedLength = word & EXTENT_LENGTH_MASK;
  if (storedLength === 0) return holeAt(start, end);
  if (storedLength > MAX_STORED_EXTENT_SIZE || length > MAX_DECODED_EXTENT_SIZE) {
    const message = `expected extents of at most ${MAX_DECODED_EXTENT_SIZE} bytes in ${MAX_STORED_EXTENT_SIZE}, got`;
    throw new ErofsError("EROFS_CORRUPT", `${message} ${length} in ${storedLength}`, { offset: inode.offset });
  }
  const number = word >>> EXTENT_ALGORITHM_SHIFT;
  const algorithm = number === 0 ? "none" : COMPRESSION_ALGORITHMS[number - 1];
  if (algorithm === undefined) {
    const message = `expected a compression algorithm of 0..3, got ${number - 1}`;
    throw new ErofsError("EROFS_UNSUPPORTED", message, { offset: inode.offset });
  }
  const { blockSize } = image.superblock;
  const isRotated =
    number === 0 && (advise & ADVISE_INTERLACED) !== 0 && position % blockSize === 0 && storedLength % blockSize === 0;
  return { start, length, encoding: isRotated ? "interlaced" : algorithm, position, storedLength, where: "image" };
}

function holeAt(start: number, end: number): StoredExtent {
  return { start, length: end - start, encoding: "none", position: 0, storedLength: 0, where: "nowhere" };
}

/** Records of 4 or 8 bytes, one for each cluster. */
function* clusterRecords(
  image: ImageParts,
  inode: Inode,
  { indexes, clusterBits }: MapHeader,
  recordSize: number,
  size: number,
): Stream<ExtentRecord[]> {
  const metadata = image.metabox.around(inode);
  const clusterSize = 2 ** clusterBits;
  const clusters = Math.ceil(size / clusterSize);
  const hasPositions = recordSize > EXTENT_RECORD.position;
  let at = Math.ceil(indexes / recordSize) * recordSize;
  let position = 0;
  if (!hasPositions) {
    position = safeNumber(viewOf(yield* metadata.read(at, EXTENT_BASE_SIZE)).getBigUint64(0, true), "a position", at);
    at += EXTENT_BASE_SIZE;
  }
  for (let first = 0; first < clusters; first += BATCH) {
    const count = Math.min(BATCH, clusters - first);
    const view = viewOf(yield* metadata.read(at, count * recordSize));
    const records: ExtentRecord[] = [];
    for (let index = 0; index < count; index += 1) {
      const word = view.getUint32(index * recordSize + EXTENT_RECORD.length, true);
      if (hasPositions) position = view.getUint32(index * recordSize + EXTENT_RECORD.position, true);
      records.push({ start: (first + index) * clusterSize, position, word });
      if (!hasPositions) position += word & EXTENT_LENGTH_MASK;
    }
    at += count * recordSize;
    yield records;
  }
}

/** Records of 16 or 32 bytes, which say where they start. */
function* placedRecords(
  image: ImageParts,
  inode: Inode,
  { indexes, extents }: MapHeader,
  recordSize: number,
  size: number,
): Stream<ExtentRecord[]> {
  const metadata = image.metabox.around(inode);
  const hasWideStart = recordSize > EXTENT_RECORD.startHigh;
  let at = Math.ceil(indexes / recordSize) * recordSize;
  let before = -1;
  for (let first = 0; first < extents; first += BATCH) {
    const count = Math.min(BATCH, extents - first);
    const view = viewOf(yield* metadata.read(at, count * recordSize));
    const records: ExtentRecord[] = [];
    for (let record = 0; record < view.byteLength; record += recordSize) {
      const field = (name: keyof typeof EXTENT_RECORD): number => view.getUint32(record + EXTENT_RECORD[name], true);
      const start = field("start") + (hasWideStart ? field("startHigh") * 2 ** 32 : 0);
      const position = field("position") + field("positionHigh") * 2 ** 32;
      if (start <= before || start >= size) {
        const message = `expected an extent that starts in ${before + 1}..${size - 1}, got one at ${start}`;
        throw new ErofsError("EROFS_CORRUPT", message, { offset: at + record });
      }
      if (!Number.isSafeInteger(position)) {
        throw new ErofsError("EROFS_CORRUPT", `expected a position below 2^53, got ${position}`, {
          offset: at + record,
        });
      }
      before = start;
      records.push({ start, position, word: field("length") });
    }
    at += count * recordSize;
    yield records;
  }
}
