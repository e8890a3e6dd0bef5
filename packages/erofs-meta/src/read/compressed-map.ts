import { ErofsError } from "../errors.ts";
import {
  ADVISE_BIG_CLUSTERS_1,
  ADVISE_BIG_CLUSTERS_2,
  ADVISE_COMPACTED_2B,
  ADVISE_EXTENTS,
  ADVISE_FRAGMENT_TAIL,
  ADVISE_INLINE_TAIL,
  ADVISE_INTERLACED,
  ADVISE_KNOWN,
  CLUSTER_BITS_MASK,
  CLUSTER_CONTINUED,
  CLUSTER_HEAD_1,
  CLUSTER_HEAD_2,
  CLUSTER_TYPE_MASK,
  COUNTS_BLOCKS,
  EXTENT_BASE_SIZE,
  FULL_INDEX,
  FULL_INDEX_PADDING,
  FULL_INDEX_SIZE,
  INCOMPAT_WITH_MAP_HEADER,
  MAP_HEADER,
  MAP_HEADER_SIZE,
  MAX_CLUSTER_BITS_2B,
  MAX_CLUSTER_BITS_4B,
  MAX_DECODED_EXTENT_SIZE,
  MAX_STORED_EXTENT_SIZE,
  PACK_2B,
  PACK_2B_ALIGNMENT,
  PACK_4B,
  PACK_BLOCK_SIZE,
  PACK_MIN_VALUE_BITS,
  WHOLE_FRAGMENT,
} from "../format/compression.ts";
import { COMPRESSION_ALGORITHMS } from "../format/superblock.ts";
import { safeNumber } from "../internal/bytes.ts";
import type { Steps, Stream } from "../internal/steps.ts";
import type { ImageParts } from "./content.ts";
import { encodedExtents, extentRecordSize } from "./encoded-extents.ts";
import { type Inode, inodeTail } from "./inode.ts";
import type { MetadataCache } from "./metadata-cache.ts";

/** How the bytes of an extent are stored: an algorithm, as they are, or as they are but rotated inside their block. */
export type Encoding = (typeof COMPRESSION_ALGORITHMS)[number] | "none" | "interlaced";

/** A run of content that is stored, and decoded, as one piece. */
export interface StoredExtent {
  /** position in the content in `bytes` */
  readonly start: number;
  /** length in the content in `bytes` */
  readonly length: number;
  readonly encoding: Encoding;
  /** position in the image in `bytes`; for a fragment its position in the packed inode's content */
  readonly position: number;
  /** length in the image in `bytes`; 0 for a fragment */
  readonly storedLength: number;
  /** the image, the packed inode, beside the inode, or nowhere, being a hole */
  readonly where: "image" | "packed" | "beside" | "nowhere";
}

/** How a compressed inode's indexes are to be read. */
export interface MapHeader {
  readonly advise: number;
  readonly encodings: readonly [Encoding, Encoding];
  readonly clusterBits: number;
  readonly inlineSize: number;
  readonly fragmentOffset: number;
  /** first index, or the end of the header of a list of extents; position in `bytes` */
  readonly indexes: number;
  /** length of such a list, where its records say where they start */
  readonly extents: number;
}

/** One logical cluster: where an extent starts, or where the one before it goes on. */
interface Cluster {
  readonly type: number;
  /** start of a new extent inside the cluster in `bytes` */
  readonly start: number;
  /** first block of a new extent */
  readonly block: number;
  /** blocks of the extent that goes on here, if this index says so */
  readonly storedBlocks: number | undefined;
}

/** indexes decoded per read: a multiple of what a pack holds, and few enough for the cache of metadata */
const BATCH = 512;

/**
 * Streams where a compressed inode's content lies, in order and covering all of it, in batches.
 *
 * @throws {ErofsError} `EROFS_CORRUPT` for an index that contradicts others or exceeds what Linux decodes,
 *   `EROFS_UNSUPPORTED` for an unknown algorithm or cluster size.
 * @see Linux v6.12 `fs/erofs/zmap.c`
 */
export function* storedExtentsOf(image: ImageParts, inode: Inode): Stream<StoredExtent[]> {
  const size = safeNumber(inode.sizeBytes, "a content size", inode.offset);
  if (size === 0) return;
  const { blockSize } = image.superblock;
  const header = yield* readHeader(image, inode);
  if (typeof header === "number") {
    yield [{ start: 0, length: size, encoding: "none", position: header, storedLength: 0, where: "packed" }];
    return;
  }
  const isFull = inode.layout === "compressed-full";
  if (isFull && (header.advise & ADVISE_EXTENTS) !== 0) {
    yield* encodedExtents(image, inode, header);
    return;
  }
  const clusterSize = 2 ** header.clusterBits;
  const clusters = Math.ceil(size / clusterSize);
  const hasCounts = (header.advise & (ADVISE_BIG_CLUSTERS_1 | ADVISE_BIG_CLUSTERS_2)) !== 0;
  if (!isFull) assertPacksReadable(header, inode);

  let head: { readonly start: number; readonly cluster: Cluster; storedBlocks: number | undefined } | undefined;
  let number = 0;
  let end = header.indexes;
  const finish = (until: number): StoredExtent => {
    if (head === undefined) throw new Error("bug: an extent ends that did not start");
    const { start, cluster } = head;
    const length = until - start;
    if (length > MAX_DECODED_EXTENT_SIZE) {
      const message = `expected extents of at most ${MAX_DECODED_EXTENT_SIZE} bytes, got ${length}`;
      throw new ErofsError("EROFS_CORRUPT", message, { offset: inode.offset });
    }
    const encoding = encodingOf(cluster.type, header);
    const isTail = until === size;
    if (isTail && (header.advise & ADVISE_INLINE_TAIL) !== 0) {
      return { start, length, encoding, position: end, storedLength: header.inlineSize, where: "beside" };
    }
    if (isTail && (header.advise & ADVISE_FRAGMENT_TAIL) !== 0) {
      // Full indexes have room for the upper half of a fragment's position.
      const position = header.fragmentOffset + (isFull ? cluster.block * 2 ** 32 : 0);
      return { start, length, encoding: "none", position, storedLength: 0, where: "packed" };
    }
    const storedLength = head.storedBlocks === undefined ? clusterSize : head.storedBlocks * blockSize;
    if (storedLength > MAX_STORED_EXTENT_SIZE || storedLength === 0) {
      const message = `expected an extent stored in 1..${MAX_STORED_EXTENT_SIZE} bytes, got ${storedLength}`;
      throw new ErofsError("EROFS_CORRUPT", message, { offset: inode.offset });
    }
    return { start, length, encoding, position: cluster.block * blockSize, storedLength, where: "image" };
  };

  const metadata = image.metabox.around(inode);
  const batches = isFull ? fullIndexes(metadata, header, clusters) : packedIndexes(metadata, header, clusters);
  for (const batch of batches) {
    if (batch instanceof Promise) {
      yield batch;
      continue;
    }
    const extents: StoredExtent[] = [];
    end = batch.end;
    for (const cluster of batch.clusters) {
      const start = number * clusterSize + cluster.start;
      number += 1;
      if (cluster.type === CLUSTER_CONTINUED) {
        if (head === undefined) throw noStart(inode);
        if (cluster.storedBlocks !== undefined && !hasCounts) {
          throw new ErofsError("EROFS_CORRUPT", "expected extents of one cluster, got one with a count of blocks", {
            offset: inode.offset,
          });
        }
        head.storedBlocks ??= cluster.storedBlocks;
      } else {
        if (cluster.start >= clusterSize) {
          throw new ErofsError("EROFS_CORRUPT", `expected a start below ${clusterSize}, got ${cluster.start}`, {
            offset: inode.offset,
          });
        }
        if (head === undefined && start !== 0) throw noStart(inode);
        // Writers may put an empty extent at the very end.
        if (start >= size) continue;
        if (head !== undefined) extents.push(finish(start));
        head = { start, cluster, storedBlocks: undefined };
      }
    }
    if (number === clusters) extents.push(finish(size));
    yield extents;
  }
}

/** Where what lies behind a compressed inode ends: indexes, and a tail behind them; a position in `bytes`. */
export function* indexesEnd(image: ImageParts, inode: Inode): Steps<number> {
  const header = yield* readHeader(image, inode);
  if (typeof header === "number")
    return Math.ceil(inodeTail(inode) / MAP_HEADER_SIZE) * MAP_HEADER_SIZE + MAP_HEADER_SIZE;
  const { indexes, inlineSize, advise, extents, clusterBits } = header;
  const isFull = inode.layout === "compressed-full";
  if (isFull && (advise & ADVISE_EXTENTS) !== 0) return indexes + EXTENT_BASE_SIZE + extents * extentRecordSize(header);
  const clusters = Math.ceil(Number(inode.sizeBytes) / 2 ** clusterBits);
  if (isFull) return indexes + clusters * FULL_INDEX_SIZE + inlineSize;
  const packs = packsOf(header, clusters);
  return packs.reduce((end, { pack, count }) => end + Math.ceil(count / pack.count) * pack.size, indexes) + inlineSize;
}

function noStart(inode: Inode): ErofsError {
  return new ErofsError("EROFS_CORRUPT", "expected the first extent to start at 0, got one that starts elsewhere", {
    offset: inode.offset,
  });
}

function encodingOf(type: number, { advise, encodings }: MapHeader): Encoding {
  switch (type) {
    case CLUSTER_HEAD_1:
      return encodings[0];
    case CLUSTER_HEAD_2:
      return encodings[1];
    default:
      return (advise & ADVISE_INTERLACED) === 0 ? "none" : "interlaced";
  }
}

/** Reads the map header; a number is the position of a whole fragment. */
function* readHeader(image: ImageParts, inode: Inode): Steps<MapHeader | number> {
  const offset = Math.ceil(inodeTail(inode) / MAP_HEADER_SIZE) * MAP_HEADER_SIZE;
  const isFull = inode.layout === "compressed-full";
  const indexes = offset + MAP_HEADER_SIZE + (isFull ? FULL_INDEX_PADDING : 0);
  const blockBits = Math.log2(image.superblock.blockSize);
  if (isFull && (image.superblock.rawFeatures.incompat & INCOMPAT_WITH_MAP_HEADER) === 0) {
    const nothing = { advise: 0, inlineSize: 0, fragmentOffset: 0, extents: 0 };
    return { ...nothing, encodings: ["lz4", "lz4"], clusterBits: blockBits, indexes };
  }
  const metadata = image.metabox.around(inode);
  const at: number = yield* metadata.locate(offset, MAP_HEADER_SIZE);
  const { view } = metadata;
  const bits = view.getUint8(at + MAP_HEADER.clusterBits);
  if ((bits & WHOLE_FRAGMENT) !== 0) {
    return safeNumber(view.getBigUint64(at, true) ^ (1n << 63n), "a fragment's position", offset);
  }
  const advise = view.getUint16(at + MAP_HEADER.advise, true);
  if ((advise & ~ADVISE_KNOWN) !== 0) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected map flags below 0x40, got 0x${advise.toString(16)}`, {
      offset: offset + MAP_HEADER.advise,
    });
  }
  if (isFull && (advise & ADVISE_EXTENTS) !== 0) {
    const extents =
      view.getUint32(at + MAP_HEADER.extents, true) + view.getUint16(at + MAP_HEADER.extentsHigh, true) * 2 ** 32;
    const clusterBits = blockBits + (bits & CLUSTER_BITS_MASK);
    const end = offset + MAP_HEADER_SIZE;
    return {
      advise,
      encodings: ["none", "none"],
      clusterBits,
      inlineSize: 0,
      fragmentOffset: 0,
      indexes: end,
      extents,
    };
  }
  const isBig1 = (advise & ADVISE_BIG_CLUSTERS_1) !== 0;
  const isBig2 = (advise & ADVISE_BIG_CLUSTERS_2) !== 0;
  if (!isFull && isBig1 !== isBig2) {
    throw new ErofsError("EROFS_CORRUPT", "expected big clusters for both algorithms or none, got one", { offset });
  }
  const algorithms = view.getUint8(at + MAP_HEADER.algorithms);
  const algorithm = (number: number): Encoding => {
    const name = COMPRESSION_ALGORITHMS[number];
    if (name !== undefined) return name;
    throw new ErofsError("EROFS_UNSUPPORTED", `expected a compression algorithm of 0..3, got ${number}`, {
      offset: offset + MAP_HEADER.algorithms,
    });
  };
  const hasFragment = (advise & ADVISE_FRAGMENT_TAIL) !== 0;
  return {
    advise,
    encodings: [algorithm(algorithms & 0xf), algorithm(algorithms >>> 4)],
    clusterBits: blockBits + (bits & CLUSTER_BITS_MASK),
    inlineSize: hasFragment ? 0 : view.getUint16(at + MAP_HEADER.inlineSize, true),
    fragmentOffset: hasFragment ? view.getUint32(at + MAP_HEADER.fragmentOffset, true) : 0,
    indexes,
    extents: 0,
  };
}

function assertPacksReadable({ clusterBits, advise }: MapHeader, inode: Inode): void {
  const most = (advise & ADVISE_COMPACTED_2B) === 0 ? MAX_CLUSTER_BITS_4B : MAX_CLUSTER_BITS_2B;
  if (clusterBits > most) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected compact indexes of at most 2^${most}, got 2^${clusterBits}`, {
      offset: inode.offset,
    });
  }
}

interface Batch {
  readonly clusters: readonly Cluster[];
  /** position in the image behind the last index read */
  readonly end: number;
}

function* fullIndexes(metadata: MetadataCache, { indexes }: MapHeader, clusters: number): Stream<Batch> {
  for (let first = 0; first < clusters; first += BATCH) {
    const count = Math.min(BATCH, clusters - first);
    const position = indexes + first * FULL_INDEX_SIZE;
    const { view } = metadata;
    const start: number = yield* metadata.locate(position, count * FULL_INDEX_SIZE);
    const batch = Array.from({ length: count }, (_, index): Cluster => {
      const at = start + index * FULL_INDEX_SIZE;
      const type = view.getUint16(at + FULL_INDEX.advise, true) & CLUSTER_TYPE_MASK;
      if (type === CLUSTER_CONTINUED) {
        return continued(view.getUint16(at + FULL_INDEX.delta, true));
      }
      const clusterOffset = view.getUint16(at + FULL_INDEX.clusterOffset, true);
      return {
        type,
        start: clusterOffset,
        block: view.getUint32(at + FULL_INDEX.block, true),
        storedBlocks: undefined,
      };
    });
    yield { clusters: batch, end: position + count * FULL_INDEX_SIZE };
  }
}

function continued(value: number): Cluster {
  const storedBlocks = (value & COUNTS_BLOCKS) === 0 ? undefined : value & (COUNTS_BLOCKS - 1);
  return { type: CLUSTER_CONTINUED, start: 0, block: 0, storedBlocks };
}

/** Packs of two indexes up to an alignment, then, where the header says so, packs of sixteen, then packs of two. */
function packsOf(header: MapHeader, clusters: number): readonly { readonly pack: Pack; readonly count: number }[] {
  const toAlignment = (PACK_2B_ALIGNMENT - (header.indexes % PACK_2B_ALIGNMENT)) % PACK_2B_ALIGNMENT;
  const initial = toAlignment / (PACK_4B.size / PACK_4B.count);
  const hasLarge = (header.advise & ADVISE_COMPACTED_2B) !== 0 && initial < clusters;
  const large = hasLarge ? Math.floor((clusters - initial) / PACK_2B.count) * PACK_2B.count : 0;
  return hasLarge
    ? [
        { pack: PACK_4B, count: initial },
        { pack: PACK_2B, count: large },
        { pack: PACK_4B, count: clusters - initial - large },
      ]
    : [{ pack: PACK_4B, count: clusters }];
}

function* packedIndexes(metadata: MetadataCache, header: MapHeader, clusters: number): Stream<Batch> {
  const decode = packDecoder(header);
  let position = header.indexes;
  for (const { pack, count } of packsOf(header, clusters)) {
    for (let first = 0; first < count; first += BATCH) {
      const wanted = Math.min(BATCH, count - first);
      const packs = Math.ceil(wanted / pack.count);
      const start: number = yield* metadata.locate(position, packs * pack.size);
      const end = start + packs * pack.size;
      const batch: Cluster[] = [];
      for (let at = start; at < end; at += pack.size) decode(metadata.view, at, pack, batch);
      // The last pack may have room for indexes behind the last cluster.
      batch.length = wanted;
      position += packs * pack.size;
      yield { clusters: batch, end: position };
    }
  }
}

/** Appends the clusters of the pack at `at`, whose blocks are counted from the pack's own block address. */
function packDecoder(header: MapHeader): (view: DataView, at: number, pack: Pack, clusters: Cluster[]) => void {
  const valueBits = Math.max(header.clusterBits, PACK_MIN_VALUE_BITS);
  const valueMask = 2 ** valueBits - 1;
  const isBig = (header.advise & ADVISE_BIG_CLUSTERS_1) !== 0;
  return (view, at, pack, clusters) => {
    let block = view.getUint32(at + pack.size - PACK_BLOCK_SIZE, true) + (isBig ? 0 : 1);
    let isBehindHead = false;
    for (let index = 0; index < pack.count; index += 1) {
      const bit = index * pack.bits;
      // The block address behind the indexes makes it four bytes even for the last one.
      const raw = view.getUint32(at + (bit >>> 3), true) >>> (bit & 7);
      const type = (raw >>> valueBits) & CLUSTER_TYPE_MASK;
      const value = raw & valueMask;
      if (type === CLUSTER_CONTINUED) {
        const cluster = continued(value);
        if (isBig) block += cluster.storedBlocks ?? (isBehindHead ? 1 : 0);
        // The last index of a pack has the distance ahead, not a count.
        clusters.push(cluster);
        isBehindHead = false;
        continue;
      }
      if (isBig && isBehindHead) block += 1;
      clusters.push({ type, start: value, block, storedBlocks: undefined });
      if (!isBig) block += 1;
      isBehindHead = true;
    }
  };
}

type Pack = typeof PACK_4B | typeof PACK_2B;
