import type { BlockSource, ByteSink } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { parseOptions, repairVerityOptions, type VerityProgress } from "../options.ts";
import { addBlocks, type BlockRange } from "../verity/block-ranges.ts";
import { hasDigest } from "../verity/digests.ts";
import { type VerityGeometry, verityGeometry } from "../verity/geometry.ts";
import { type DamagedHashBlock, type VerityReport, verifyVerityTree } from "../verity/verify.ts";
import { type ProtectedBlocks, protectedBlocks } from "./layout.ts";
import { CODEWORD_SIZE, correct } from "./reed-solomon.ts";

/** How to repair. */
export interface RepairVerityOptions {
  /** root hash that is trusted: nothing is written that it does not vouch for */
  readonly rootHash: Uint8Array;
  /** bytes of parity for every 255 bytes, as when it was built; 2 unless given */
  readonly roots?: number | undefined;
  /** where repaired data blocks are written, each to its place */
  readonly dataOutput: ByteSink;
  /** where repaired hash blocks are written, each to its place */
  readonly treeOutput: ByteSink;
  /** most places each list of the report holds, {@link DEFAULT_MAX_DAMAGE}; what is beyond it is not repaired */
  readonly maxDamage?: number | undefined;
  /** worker threads besides the calling one */
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** called after each couple of MiB that are verified */
  readonly onProgress?: ((event: VerityProgress) => void) | undefined;
}

/** What was repaired, and what is left. */
export interface VerityRepair {
  readonly repairedHashBlocks: readonly DamagedHashBlock[];
  readonly repairedDataBlocks: readonly BlockRange[];
  /** what verification finds now */
  readonly report: VerityReport;
}

/**
 * Repairs data and its hash tree with forward error correction. The tree is repaired from its top, so that every block
 * is checked against a digest that the root hash vouches for before it is written.
 *
 * @param data - The data. Not closed.
 * @param tree - The hash area, starting with its superblock, as long as it was when the parity was built. Not closed.
 * @param fec - The parity. Not closed.
 * @param options - See {@link RepairVerityOptions}.
 * @throws {ErofsError} As `verifyVerityTree` and `buildVerityFec`; `EROFS_TRUNCATED` for parity that is too short. An
 *   abort throws the signal's reason; every block written until then is right.
 * @example
 * const { report } = await repairVerityTree(data, tree, fec, { rootHash, dataOutput, treeOutput });
 */
export async function repairVerityTree(
  data: BlockSource,
  tree: BlockSource,
  fec: BlockSource,
  options: RepairVerityOptions,
): Promise<VerityRepair> {
  const checked = parseOptions(repairVerityOptions, options);
  const { rootHash, roots, maxDamage, workers, signal, onProgress } = checked;
  const verify = { rootHash, maxDamage, workers, signal, onProgress };
  const before = await verifyVerityTree(data, tree, verify);
  if (before.ok) return { repairedHashBlocks: [], repairedDataBlocks: [], report: before };
  const blocks = await protectedBlocks(data, tree, roots);
  if (fec.sizeBytes < blocks.layout.sizeBytes) {
    const message = `expected parity of ${blocks.layout.sizeBytes} bytes, got ${fec.sizeBytes}`;
    throw new ErofsError("EROFS_TRUNCATED", message);
  }
  const repair = new Repair(blocks, fec, checked);
  const repairedHashBlocks = await repair.tree();
  // With the tree right, the data that it vouches for can be judged.
  const patchedTree = repair.patchedTree(tree);
  const known = repairedHashBlocks.length === 0 ? before : await verifyVerityTree(data, patchedTree, verify);
  const repairedDataBlocks = await repair.data(known.damagedDataBlocks);
  const report = await verifyVerityTree(repair.patchedData(data), patchedTree, verify);
  return { repairedHashBlocks, repairedDataBlocks, report };
}

type Checked = ReturnType<typeof parseOptions<typeof repairVerityOptions>>;

class Repair {
  readonly #blocks: ProtectedBlocks;
  readonly #fec: BlockSource;
  readonly #options: Checked;
  readonly #geometry: VerityGeometry;
  /** blocks as they should be, by their number among those protected */
  readonly #patches = new Map<number, Uint8Array>();
  /** blocks known to be wrong */
  readonly #damaged = new Set<number>();

  constructor(blocks: ProtectedBlocks, fec: BlockSource, options: Checked) {
    this.#blocks = blocks;
    this.#fec = fec;
    this.#options = options;
    this.#geometry = verityGeometry(blocks.superblock);
  }

  /** Repairs hash blocks, those that vouch for others first. */
  async tree(): Promise<DamagedHashBlock[]> {
    const { levels } = this.#geometry;
    const repaired: DamagedHashBlock[] = [];
    for (let level = levels.length - 1; level >= 0; level -= 1) {
      for (let index = 0; index < (levels[level]?.blocks ?? 0); index += 1) {
        this.#options.signal?.throwIfAborted();
        const digest = await this.#digest(level, index);
        if (digest === undefined) continue;
        const block = this.#hashBlock(level, index);
        if (this.#matches(await this.#read(block), digest)) continue;
        this.#damaged.add(block);
        if ((await this.#repair([{ block, digest }])).length === 0) continue;
        const offset = (levels[level]?.offset ?? 0) + index * this.#blocks.layout.blockSize;
        await this.#options.treeOutput.write(offset, await this.#read(block));
        repaired.push({ level, index, offset });
      }
    }
    return repaired;
  }

  /** Repairs data blocks that are known to be wrong. */
  async data(ranges: readonly BlockRange[]): Promise<BlockRange[]> {
    const { rounds, blockSize } = this.#blocks.layout;
    const byRound = new Map<number, Wrong[]>();
    for (const { first, count } of ranges) {
      for (let block = first; block < first + count; block += 1) {
        const digest = await this.#digest(-1, block);
        if (digest === undefined) continue;
        this.#damaged.add(block);
        byRound.set(block % rounds, [...(byRound.get(block % rounds) ?? []), { block, digest }]);
      }
    }
    const repaired: number[] = [];
    for (const wrong of byRound.values()) {
      this.#options.signal?.throwIfAborted();
      for (const block of await this.#repair(wrong)) {
        await this.#options.dataOutput.write(block * blockSize, await this.#read(block));
        repaired.push(block);
      }
    }
    return rangesOf(repaired);
  }

  /** The data with what was repaired. */
  patchedData(data: BlockSource): BlockSource {
    return patched(data, this.#blocks.layout.blockSize, (block) =>
      block < this.#geometry.dataBlocks ? this.#patches.get(block) : undefined,
    );
  }

  /** The tree with what was repaired; its superblock's block is none of those protected. */
  patchedTree(tree: BlockSource): BlockSource {
    return patched(tree, this.#blocks.layout.blockSize, (block) =>
      block === 0 ? undefined : this.#patches.get(this.#geometry.dataBlocks + block - 1),
    );
  }

  /** The digest that vouches for a block; level -1 is the data. Undefined when nothing that is trusted has it. */
  async #digest(level: number, index: number): Promise<Uint8Array | undefined> {
    const { levels, digestsPerBlock, digestStride, digestSize } = this.#geometry;
    if (level === levels.length - 1) return this.#options.rootHash;
    const parent = this.#hashBlock(level + 1, Math.floor(index / digestsPerBlock));
    if (this.#damaged.has(parent)) return undefined;
    const start = (index % digestsPerBlock) * digestStride;
    return (await this.#read(parent)).subarray(start, start + digestSize);
  }

  #hashBlock(level: number, index: number): number {
    const { levels, dataBlocks } = this.#geometry;
    return dataBlocks + (levels[level]?.offset ?? 0) / this.#blocks.layout.blockSize - 1 + index;
  }

  #matches(bytes: Uint8Array, digest: Uint8Array): boolean {
    return hasDigest(bytes, digest, this.#blocks.superblock, this.#geometry);
  }

  async #read(block: number): Promise<Uint8Array> {
    const patch = this.#patches.get(block);
    if (patch !== undefined) return patch;
    const bytes = new Uint8Array(this.#blocks.layout.blockSize);
    await this.#blocks.read(bytes, block, 1);
    return bytes;
  }

  /**
   * Finds contents that have the digests, for blocks of one round. What is wrong may be so in few places: then not
   * taking all of it for lost can help.
   *
   * @returns The blocks that are right now.
   */
  async #repair(wrong: readonly Wrong[]): Promise<number[]> {
    const round = (wrong[0]?.block ?? 0) % this.#blocks.layout.rounds;
    const codewords = await this.#codewords(round);
    const repaired: number[] = [];
    for (const useErasures of [true, false]) {
      const left = wrong.filter(({ block }) => !this.#patches.has(block));
      if (left.length === 0) break;
      const corrected = this.#corrected(codewords, round, useErasures);
      if (corrected === undefined) continue;
      for (const { block, digest } of left) {
        const symbol = Math.floor(block / this.#blocks.layout.rounds);
        const candidate = Uint8Array.from(corrected, (codeword) => codeword[symbol] ?? 0);
        if (!this.#matches(candidate, digest)) continue;
        this.#patches.set(block, candidate);
        this.#damaged.delete(block);
        repaired.push(block);
      }
    }
    return repaired;
  }

  /** All codewords of a round, as they were received. */
  async #codewords(round: number): Promise<Uint8Array[]> {
    const { blockSize, dataSymbols, rounds, roots } = this.#blocks.layout;
    const codewords = Array.from({ length: blockSize }, () => new Uint8Array(CODEWORD_SIZE));
    for (let symbol = 0; symbol < dataSymbols; symbol += 1) {
      const bytes = await this.#read(symbol * rounds + round);
      for (const [index, codeword] of codewords.entries()) codeword[symbol] = bytes[index] ?? 0;
    }
    const parity = await this.#fec.read(round * blockSize * roots, blockSize * roots);
    for (const [index, codeword] of codewords.entries()) {
      codeword.set(parity.subarray(index * roots, (index + 1) * roots), dataSymbols);
    }
    return codewords;
  }

  /** All codewords of a round as they should be; one that cannot be corrected stays as it was. */
  #corrected(received: readonly Uint8Array[], round: number, useErasures: boolean): Uint8Array[] | undefined {
    const { rounds, roots, dataSymbols } = this.#blocks.layout;
    const symbols = Array.from({ length: dataSymbols }, (_, symbol) => symbol);
    const erasures = useErasures ? symbols.filter((symbol) => this.#damaged.has(symbol * rounds + round)) : [];
    if (erasures.length > roots) return undefined;
    return received.map((codeword) => {
      const copy = Uint8Array.from(codeword);
      correct(copy, roots, erasures);
      return copy;
    });
  }
}

/** A block that is wrong, and the digest of what it should be. */
interface Wrong {
  readonly block: number;
  readonly digest: Uint8Array;
}

function rangesOf(blocks: readonly number[]): BlockRange[] {
  const ranges: BlockRange[] = [];
  for (const first of blocks.toSorted((a, b) => a - b)) addBlocks(ranges, { first, count: 1 }, blocks.length);
  return ranges;
}

/** A source of which some blocks are replaced. */
function patched(
  source: BlockSource,
  blockSize: number,
  patch: (block: number) => Uint8Array | undefined,
): BlockSource {
  return {
    sizeBytes: source.sizeBytes,
    async read(offset, length) {
      const bytes = Uint8Array.from(await source.read(offset, length));
      for (let block = Math.floor(offset / blockSize); block * blockSize < offset + length; block += 1) {
        const found = patch(block);
        if (found === undefined) continue;
        const start = block * blockSize - offset;
        const from = Math.max(0, -start);
        bytes.set(found.subarray(from, Math.min(blockSize, length - start)), start + from);
      }
      return bytes;
    },
    close: () => source.close(),
  };
}
