import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { VERITY_SUPERBLOCK_SIZE } from "../format/verity.ts";
import { decodeVeritySuperblock, type VeritySuperblock } from "../verity/superblock.ts";
import { CODEWORD_SIZE } from "./reed-solomon.ts";

/** How codewords lie over the blocks they protect. */
export interface FecLayout {
  readonly blockSize: number;
  /** symbols of parity of a codeword */
  readonly roots: number;
  /** symbols of data of a codeword */
  readonly dataSymbols: number;
  /** blocks protected: the data, the hash blocks, and what follows these */
  readonly blocks: number;
  /**
   * rounds; symbol s of the codewords of round r lies in block `s * rounds + r`, so that neighbours that are damaged
   * together belong to different codewords
   */
  readonly rounds: number;
  /** size of the parity in `bytes` */
  readonly sizeBytes: number;
}

/** What is protected, as one run of blocks; beyond its end there are zeros. */
export interface ProtectedBlocks {
  readonly superblock: VeritySuperblock;
  readonly layout: FecLayout;
  /** reads consecutive blocks into the start of `target` */
  read(target: Uint8Array, block: number, count: number): Promise<void>;
}

/**
 * Puts data and hash blocks in the order in which codes protect them.
 *
 * @throws {ErofsError} As `decodeVeritySuperblock`; `EROFS_UNSUPPORTED` when data and tree have different block sizes,
 *   which no parity is defined for; `EROFS_TRUNCATED` when the data is shorter than the superblock says.
 * @see cryptsetup 2.6 `veritysetup(8)`, "--fec-device"; Linux v6.12 `drivers/md/dm-verity-fec.h`
 */
export async function protectedBlocks(data: BlockSource, tree: BlockSource, roots: number): Promise<ProtectedBlocks> {
  const superblock = decodeVeritySuperblock(await tree.read(0, Math.min(VERITY_SUPERBLOCK_SIZE, tree.sizeBytes)));
  const { dataBlockSize: blockSize, hashBlockSize } = superblock;
  if (blockSize !== hashBlockSize) {
    const message = `expected one block size for data and tree, got ${blockSize} and ${hashBlockSize} bytes`;
    throw new ErofsError("EROFS_UNSUPPORTED", message);
  }
  const dataBlocks = Number(superblock.dataBlocks);
  if (data.sizeBytes < dataBlocks * blockSize) {
    const message = `expected data of ${dataBlocks * blockSize} bytes, got ${data.sizeBytes}`;
    throw new ErofsError("EROFS_TRUNCATED", message);
  }
  // The superblock's own block is not protected; whatever follows the tree is.
  const hashBlocks = Math.max(0, Math.floor(tree.sizeBytes / blockSize) - 1);
  const blocks = dataBlocks + hashBlocks;
  const dataSymbols = CODEWORD_SIZE - roots;
  const rounds = Math.ceil(blocks / dataSymbols);
  const layout = { blockSize, roots, dataSymbols, blocks, rounds, sizeBytes: rounds * blockSize * roots };
  return {
    superblock,
    layout,
    async read(target, block, count) {
      const ofData = Math.max(0, Math.min(count, dataBlocks - block));
      const ofTree = Math.max(0, Math.min(count - ofData, blocks - block - ofData));
      if (ofData > 0) target.set(await data.read(block * blockSize, ofData * blockSize));
      if (ofTree > 0) {
        const position = (block + ofData - dataBlocks + 1) * blockSize;
        target.set(await tree.read(position, ofTree * blockSize), ofData * blockSize);
      }
      target.fill(0, (ofData + ofTree) * blockSize, count * blockSize);
    },
  };
}
