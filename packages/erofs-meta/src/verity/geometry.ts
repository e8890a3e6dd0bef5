import { ErofsError } from "../errors.ts";
import { VERITY_DIGEST_SIZES } from "../format/verity.ts";
import { safeNumber } from "../internal/bytes.ts";
import type { VeritySuperblock } from "./superblock.ts";

/** Where the levels of a hash tree lie. */
export interface VerityGeometry {
  /** digest length in `bytes` */
  readonly digestSize: number;
  /** distance of digests in a hash block in `bytes`: the digest length rounded up to a power of two */
  readonly digestStride: number;
  /** digests per hash block, a power of two */
  readonly digestsPerBlock: number;
  /** number of data blocks */
  readonly dataBlocks: number;
  /** levels, lowest first: the first one holds the digests of the data; none when there is only one data block */
  readonly levels: readonly { readonly offset: number; readonly blocks: number }[];
  /** size of the hash area with its superblock in `bytes` */
  readonly treeSizeBytes: number;
}

/**
 * Computes where everything lies in a hash area that starts with its superblock.
 *
 * @param superblock - Sizes and algorithm.
 * @returns Positions in bytes from the start of the hash area.
 * @throws {ErofsError} `EROFS_CORRUPT` when there is no data block or the tree would not fit into 2^53 bytes.
 * @see Linux v6.12 `Documentation/admin-guide/device-mapper/verity.rst`, "Hash Tree"
 * @example
 * const { treeSizeBytes } = verityGeometry(superblock);
 */
export function verityGeometry(superblock: VeritySuperblock): VerityGeometry {
  const { hashBlockSize, dataBlockSize } = superblock;
  if (superblock.dataBlocks === 0n) throw new ErofsError("EROFS_CORRUPT", "expected at least one data block, got none");
  safeNumber(superblock.dataBlocks * BigInt(dataBlockSize), "the data's size", 0);
  const dataBlocks = Number(superblock.dataBlocks);
  const digestSize = VERITY_DIGEST_SIZES[superblock.algorithm];
  const digestStride = 2 ** Math.ceil(Math.log2(digestSize));
  const digestsPerBlock = hashBlockSize / digestStride;

  const counts: number[] = [];
  for (let nodes = dataBlocks; nodes > 1; nodes = counts.at(-1) ?? 1) counts.push(Math.ceil(nodes / digestsPerBlock));

  // The topmost level comes first, in the hash block after the superblock's.
  let offset = hashBlockSize;
  const levels: { offset: number; blocks: number }[] = [];
  for (const blocks of counts.toReversed()) {
    levels.unshift({ offset, blocks });
    offset += blocks * hashBlockSize;
  }
  return { digestSize, digestStride, digestsPerBlock, dataBlocks, levels, treeSizeBytes: offset };
}
