import {
  ADVISE_BIG_CLUSTERS_1,
  ADVISE_BIG_CLUSTERS_2,
  ADVISE_COMPACTED_2B,
  ADVISE_INLINE_TAIL,
  CLUSTER_CONTINUED,
  CLUSTER_HEAD_1,
  CLUSTER_PLAIN,
  COUNTS_BLOCKS,
  FULL_INDEX,
  FULL_INDEX_PADDING,
  FULL_INDEX_SIZE,
  MAP_HEADER,
  MAP_HEADER_SIZE,
  PACK_2B,
  PACK_2B_ALIGNMENT,
  PACK_4B,
  PACK_BLOCK_SIZE,
  PACK_MIN_VALUE_BITS,
} from "../format/compression.ts";
import { viewOf } from "../internal/bytes.ts";
import type { CompressedMap, CompressedPlacement } from "./node.ts";

/** What is said of blocks of content that has none. */
const NO_BLOCK = 1;

type Pack = typeof PACK_4B | typeof PACK_2B;

/** What the index of one logical cluster says. */
interface Index {
  readonly type: number;
  /** start of an extent in its first cluster in `bytes`, or the distance back to that cluster, or a count of blocks */
  readonly value: number;
  /** clusters to the next extent */
  readonly ahead: number;
  /** blocks by which the address grows with this index */
  readonly blocks: number;
  /** first block of the extent */
  readonly block: number;
}

/** Bytes from the end of the inode's xattrs to the end of the indexes. */
export function indexSize(areaEnd: number, { layout, map }: CompressedPlacement, blockSize: number): number {
  return layout === "compressed-full"
    ? headerEnd(areaEnd) - areaEnd + FULL_INDEX_PADDING + Math.ceil(map.size / blockSize) * FULL_INDEX_SIZE
    : compactIndexSize(areaEnd, map.size, blockSize);
}

function compactIndexSize(areaEnd: number, size: number, blockSize: number): number {
  const { initial, large, rest } = countPacks(areaEnd, size, blockSize);
  return headerEnd(areaEnd) - areaEnd + (initial + rest) * PACK_4B.size + large * PACK_2B.size;
}

/** The most that compact indexes come to, wherever the inode ends. */
export function maxIndexSize(size: number, blockSize: number): number {
  const header = 2 * MAP_HEADER_SIZE;
  return header + (Math.ceil(size / blockSize) * PACK_4B.size) / PACK_4B.count + PACK_4B.size;
}

/**
 * Encodes the map header and the indexes of a compressed inode.
 *
 * @param areaEnd - Where the inode and its xattrs end, counted from a multiple of 32.
 * @see Linux v6.12 `fs/erofs/zmap.c`, `z_erofs_load_full_lcluster` and `z_erofs_load_compact_lcluster`
 */
export function encodeIndex(areaEnd: number, placement: CompressedPlacement, blockSize: number): Uint8Array {
  const { map, tail, layout } = placement;
  const bytes = new Uint8Array(indexSize(areaEnd, placement, blockSize));
  const view = viewOf(bytes);
  const start = headerEnd(areaEnd) - areaEnd;
  const header = start - MAP_HEADER_SIZE;
  const advise =
    (layout === "compressed-compact" ? ADVISE_COMPACTED_2B : 0) |
    (map.isBig ? ADVISE_BIG_CLUSTERS_1 | ADVISE_BIG_CLUSTERS_2 : 0) |
    (tail.byteLength > 0 ? ADVISE_INLINE_TAIL : 0);
  view.setUint16(header + MAP_HEADER.inlineSize, tail.byteLength, true);
  view.setUint16(header + MAP_HEADER.advise, advise, true);
  view.setUint8(header + MAP_HEADER.algorithms, map.algorithm);
  const indexes = indexesOf(map, blockSize);
  if (layout === "compressed-full") encodeFull(viewOf(bytes.subarray(start + FULL_INDEX_PADDING)), indexes);
  else encodeCompact(bytes, start, indexes, packsOf(areaEnd, map.size, blockSize), map);
  return bytes;
}

function encodeFull(view: DataView, indexes: readonly Index[]): void {
  for (const [number, { type, value, ahead, block }] of indexes.entries()) {
    const at = number * FULL_INDEX_SIZE;
    view.setUint16(at + FULL_INDEX.advise, type, true);
    if (type === CLUSTER_CONTINUED) {
      view.setUint16(at + FULL_INDEX.delta, value, true);
      view.setUint16(at + FULL_INDEX.deltaAhead, ahead, true);
    } else {
      view.setUint16(at + FULL_INDEX.clusterOffset, value, true);
      view.setUint32(at + FULL_INDEX.block, block, true);
    }
  }
}

function encodeCompact(
  bytes: Uint8Array,
  start: number,
  indexes: readonly Index[],
  packs: readonly Packs[],
  { extents, isBig }: CompressedMap,
): void {
  const view = viewOf(bytes);
  let at = start;
  let number = 0;
  let block = extents.find(({ blocks }) => blocks > 0)?.block ?? NO_BLOCK;
  for (const pack of packs) {
    for (let left = pack.count; left > 0; left -= 1) {
      const members = indexes.slice(number, number + pack.members);
      // Readers count from the pack's own address: all blocks of extents before, or one less where each has one.
      view.setUint32(at + pack.size - PACK_BLOCK_SIZE, packAddress(members, block, isBig), true);
      encodePack(bytes.subarray(at, at + pack.size), members, pack);
      for (const { blocks } of members) block += blocks;
      number += members.length;
      at += pack.size;
    }
  }
}

function headerEnd(areaEnd: number): number {
  return Math.ceil(areaEnd / MAP_HEADER_SIZE) * MAP_HEADER_SIZE + MAP_HEADER_SIZE;
}

interface Packs extends Pick<Pack, "size" | "bits"> {
  readonly members: number;
  readonly count: number;
}

/** Counts packs of two indexes up to an alignment, then packs of sixteen, then packs of two. */
function countPacks(
  areaEnd: number,
  size: number,
  blockSize: number,
): { initial: number; large: number; rest: number } {
  const clusters = Math.ceil(size / blockSize);
  const toAlignment = (PACK_2B_ALIGNMENT - (headerEnd(areaEnd) % PACK_2B_ALIGNMENT)) % PACK_2B_ALIGNMENT;
  const initial = Math.min(clusters, toAlignment / (PACK_4B.size / PACK_4B.count));
  const large = Math.floor((clusters - initial) / PACK_2B.count);
  const rest = clusters - initial - large * PACK_2B.count;
  return { initial: Math.ceil(initial / PACK_4B.count), large, rest: Math.ceil(rest / PACK_4B.count) };
}

function packsOf(areaEnd: number, size: number, blockSize: number): Packs[] {
  const { initial, large, rest } = countPacks(areaEnd, size, blockSize);
  const small = { size: PACK_4B.size, bits: PACK_4B.bits, members: PACK_4B.count };
  return [
    { ...small, count: initial },
    { size: PACK_2B.size, bits: PACK_2B.bits, members: PACK_2B.count, count: large },
    { ...small, count: rest },
  ];
}

function indexesOf({ extents, isBig, size }: CompressedMap, blockSize: number): Index[] {
  const indexes: Index[] = [];
  let start = 0;
  for (const { length, block, blocks, isCompressed } of extents) {
    const end = start + length;
    const behind = Math.max(Math.floor(end / blockSize), Math.floor(start / blockSize) + (end === size ? 1 : 0));
    const first = Math.floor(start / blockSize);
    const type = isCompressed ? CLUSTER_HEAD_1 : CLUSTER_PLAIN;
    const counts = isBig && behind > first + 1;
    indexes.push({ type, value: start % blockSize, ahead: behind - first, blocks: counts ? 0 : blocks, block });
    for (let cluster = first + 1; cluster < behind; cluster += 1) {
      const isCount = counts && cluster === first + 1;
      const value = isCount ? COUNTS_BLOCKS | Math.max(1, blocks) : cluster - first;
      indexes.push({ type: CLUSTER_CONTINUED, value, ahead: behind - cluster, blocks: isCount ? blocks : 0, block });
    }
    start = end;
  }
  // An extent that ends inside of a cluster needs one to start there, also where there is nothing behind it.
  if (indexes.length < Math.ceil(size / blockSize)) {
    indexes.push({ type: CLUSTER_PLAIN, value: size % blockSize, ahead: 1, blocks: 0, block: 0 });
  }
  return indexes;
}

function packAddress(members: readonly Index[], block: number, isBig: boolean): number {
  if (isBig) return block;
  // Without counts the first extent that starts in a pack is one behind its address.
  return members.length === 0 ? 0 : block - 1;
}

function encodePack(bytes: Uint8Array, members: readonly Index[], { bits, members: room }: Packs): void {
  for (const [index, { type, value, ahead }] of members.entries()) {
    // The last index of a pack says how far it is to the next extent instead of how far back its own started.
    const isLast = index === room - 1 && type === CLUSTER_CONTINUED && (value & COUNTS_BLOCKS) === 0;
    putBits(bytes, index * bits, (type << PACK_MIN_VALUE_BITS) | (isLast ? ahead : value));
  }
}

/** An index may lie across three bytes. */
function putBits(bytes: Uint8Array, bit: number, value: number): void {
  const at = bit >>> 3;
  const shifted = value << (bit & 7);
  for (let index = 0; index < 3; index += 1) {
    const byte = bytes[at + index];
    if (byte !== undefined) bytes[at + index] = byte | ((shifted >>> (8 * index)) & 0xff);
  }
}
