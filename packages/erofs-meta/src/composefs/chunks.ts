import { COMPOSEFS_BLOCK_SIZE } from "../format/composefs.ts";
import { CHUNK_BLOCK_BITS_MASK } from "../format/inode.ts";

const BLOCK_BITS = Math.log2(COMPOSEFS_BLOCK_SIZE);

/** How the map of a file without data is cut: as few chunks as there can be. */
export function chunksOf(sizeBytes: number): { readonly bits: number; readonly count: number } {
  const wanted = BigInt(sizeBytes - 1).toString(2).length;
  const bits = Math.min(Math.max(wanted, BLOCK_BITS), CHUNK_BLOCK_BITS_MASK + BLOCK_BITS);
  return { bits, count: Math.ceil(sizeBytes / 2 ** bits) };
}
