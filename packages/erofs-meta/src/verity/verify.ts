import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { VERITY_SUPERBLOCK_SIZE } from "../format/verity.ts";
import { parseOptions, type VerityProgress, verifyVerityOptions } from "../options.ts";
import { digestsOf } from "./block-hasher.ts";
import { addBlocks, type BlockRange } from "./block-ranges.ts";
import { hasDigest, hashJob } from "./digests.ts";
import { type VerityGeometry, verityGeometry } from "./geometry.ts";
import { decodeVeritySuperblock, type VeritySuperblock } from "./superblock.ts";

/** How to verify. */
export interface VerifyVerityOptions {
  /** root hash that is trusted */
  readonly rootHash: Uint8Array;
  /** worker threads besides the calling one, which hashes too; one less than cores for large data unless given */
  readonly workers?: number | undefined;
  /** most places each list of the report holds, {@link DEFAULT_MAX_DAMAGE} */
  readonly maxDamage?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** called after each couple of MiB */
  readonly onProgress?: ((event: VerityProgress) => void) | undefined;
}

/** A hash block whose content does not have the digest the level above gives for it. */
export interface DamagedHashBlock {
  /** 0 is the level over the data */
  readonly level: number;
  /** number of the block in its level */
  readonly index: number;
  /** position in the hash area in `bytes` */
  readonly offset: number;
}

/** What verification found. */
export interface VerityReport {
  /** every block checked and right */
  readonly ok: boolean;
  /** the top of the tree has the trusted root hash; without that nothing below can be judged */
  readonly rootHashMatches: boolean;
  readonly superblock: VeritySuperblock;
  readonly damagedHashBlocks: readonly DamagedHashBlock[];
  /** data blocks with the wrong content */
  readonly damagedDataBlocks: readonly BlockRange[];
  /** data blocks under a damaged hash block: right or wrong, nobody can tell */
  readonly unverifiableDataBlocks: readonly BlockRange[];
  /** a list reached `maxDamage` and is incomplete */
  readonly isIncomplete: boolean;
}

/**
 * Verifies data against a dm-verity hash tree and locates what is damaged. The tree is trusted only as far as it leads
 * to the root hash, block by block from the top.
 *
 * @param data - The data; may be longer than the tree covers, as partitions are. Not closed.
 * @param tree - The hash area, starting with its superblock. Not closed.
 * @param options - Root hash and limits; see {@link VerifyVerityOptions}.
 * @returns A report; damage is not an error.
 * @throws {ErofsError} What {@link decodeVeritySuperblock} throws; `EROFS_TRUNCATED` when data or tree are shorter than
 *   the superblock says, `EROFS_BAD_OPTIONS` for a root hash of the wrong length.
 * @example
 * const report = await verifyVerityTree(data, tree, { rootHash });
 * if (!report.ok) console.log(report.damagedDataBlocks);
 */
export async function verifyVerityTree(
  data: BlockSource,
  tree: BlockSource,
  options: VerifyVerityOptions,
): Promise<VerityReport> {
  const checked = parseOptions(verifyVerityOptions, options);
  const superblock = decodeVeritySuperblock(await tree.read(0, Math.min(VERITY_SUPERBLOCK_SIZE, tree.sizeBytes)));
  const geometry = verityGeometry(superblock);
  if (checked.rootHash.byteLength !== geometry.digestSize) {
    const message = `expected a root hash of ${geometry.digestSize} bytes, got ${checked.rootHash.byteLength}`;
    throw new ErofsError("EROFS_BAD_OPTIONS", message);
  }
  assertSize(tree, geometry.levels.length === 0 ? VERITY_SUPERBLOCK_SIZE : geometry.treeSizeBytes, "hash tree");
  const dataSize = geometry.dataBlocks * superblock.dataBlockSize;
  assertSize(data, dataSize, "data");

  const damage = new Damage(checked.maxDamage);
  const reader = new TreeReader(tree, superblock, geometry, checked.rootHash, damage);
  const job = hashJob(superblock, geometry, superblock.dataBlockSize);
  for await (const batch of digestsOf(data, job, geometry.dataBlocks, checked)) {
    await compare(batch, geometry, reader, damage);
    checked.onProgress?.({ doneBytes: (batch.first + batch.count) * superblock.dataBlockSize, totalBytes: dataSize });
  }
  return damage.report(superblock);
}

type Batch = { readonly first: number; readonly count: number; readonly digests: Uint8Array };

async function compare(batch: Batch, geometry: VerityGeometry, reader: TreeReader, damage: Damage): Promise<void> {
  const { digestStride, digestsPerBlock } = geometry;
  const end = batch.first + batch.count;
  for (let block = batch.first; block < end; ) {
    const runEnd = Math.min(end, (Math.floor(block / digestsPerBlock) + 1) * digestsPerBlock);
    const expected = await reader.digests(block);
    if (expected === undefined) damage.unverifiable(block, runEnd - block);
    else {
      const got = batch.digests.subarray((block - batch.first) * digestStride, (runEnd - batch.first) * digestStride);
      const start = (block % digestsPerBlock) * digestStride;
      compareRun(block, got, expected.subarray(start, start + got.byteLength), geometry, damage);
    }
    block = runEnd;
  }
}

function compareRun(
  first: number,
  got: Uint8Array,
  expected: Uint8Array,
  { digestStride, digestSize }: VerityGeometry,
  damage: Damage,
): void {
  if (Buffer.compare(got, expected) === 0) return;
  for (let at = 0; at < got.byteLength; at += digestStride) {
    const end = at + digestSize;
    if (Buffer.compare(got.subarray(at, end), expected.subarray(at, end)) !== 0) damage.data(first + at / digestStride);
  }
}

/** Reads hash blocks on the way from the root to the data, keeping one verified block per level. */
class TreeReader {
  readonly #tree: BlockSource;
  readonly #superblock: VeritySuperblock;
  readonly #geometry: VerityGeometry;
  readonly #rootHash: Uint8Array;
  readonly #damage: Damage;
  /** last block asked for in each level; `bytes` is absent when it cannot be trusted */
  readonly #latest: { index: number; bytes: Uint8Array | undefined }[] = [];

  constructor(
    tree: BlockSource,
    superblock: VeritySuperblock,
    geometry: VerityGeometry,
    rootHash: Uint8Array,
    damage: Damage,
  ) {
    this.#tree = tree;
    this.#superblock = superblock;
    this.#geometry = geometry;
    this.#rootHash = rootHash;
    this.#damage = damage;
  }

  /** The verified hash block over data block `block`; undefined when it cannot be trusted. */
  async digests(block: number): Promise<Uint8Array | undefined> {
    const { levels, digestsPerBlock } = this.#geometry;
    if (levels.length === 0) return this.#paddedRoot();
    let index = block;
    const path = levels.map((_, level) => {
      index = Math.floor(index / digestsPerBlock);
      return { level, index };
    });
    let digest: Uint8Array | undefined = this.#rootHash;
    let bytes: Uint8Array | undefined;
    for (const step of path.toReversed()) {
      bytes = await this.#verified(step.level, step.index, digest);
      const child: number = step.level === 0 ? block : (path[step.level - 1]?.index ?? 0);
      digest = bytes === undefined ? undefined : this.#digestIn(bytes, child % digestsPerBlock);
    }
    return bytes;
  }

  /** One data block has no tree: its digest is the root hash. */
  #paddedRoot(): Uint8Array {
    const padded = new Uint8Array(this.#geometry.digestStride);
    padded.set(this.#rootHash);
    return padded;
  }

  #digestIn(bytes: Uint8Array, slot: number): Uint8Array {
    const start = slot * this.#geometry.digestStride;
    return bytes.subarray(start, start + this.#geometry.digestSize);
  }

  async #verified(level: number, index: number, digest: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    const latest = this.#latest[level];
    if (latest?.index === index) return latest.bytes;
    const bytes = digest === undefined ? undefined : await this.#read(level, index, digest);
    this.#latest[level] = { index, bytes };
    return bytes;
  }

  async #read(level: number, index: number, digest: Uint8Array): Promise<Uint8Array | undefined> {
    const { hashBlockSize } = this.#superblock;
    const offset = (this.#geometry.levels[level]?.offset ?? 0) + index * hashBlockSize;
    const bytes = await this.#tree.read(offset, hashBlockSize);
    if (hasDigest(bytes, digest, this.#superblock, this.#geometry)) return bytes;
    this.#damage.hash({ level, index, offset }, level === this.#geometry.levels.length - 1);
    return undefined;
  }
}

/** Collects findings, each list up to a limit. */
class Damage {
  readonly #limit: number;
  readonly #hash: DamagedHashBlock[] = [];
  readonly #data: BlockRange[] = [];
  readonly #unverifiable: BlockRange[] = [];
  #rootHashMatches = true;
  #isIncomplete = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  hash(block: DamagedHashBlock, isTop: boolean): void {
    if (isTop) this.#rootHashMatches = false;
    if (this.#hash.length < this.#limit) this.#hash.push(block);
    else this.#isIncomplete = true;
  }

  data(block: number): void {
    this.#add(this.#data, { first: block, count: 1 });
  }

  unverifiable(first: number, count: number): void {
    this.#add(this.#unverifiable, { first, count });
  }

  report(superblock: VeritySuperblock): VerityReport {
    const found = this.#hash.length + this.#data.length + this.#unverifiable.length;
    // With a single data block the root hash is that block's digest.
    const isOnlyBlockWrong = superblock.dataBlocks === 1n && this.#data.length > 0;
    return {
      ok: found === 0,
      rootHashMatches: this.#rootHashMatches && !isOnlyBlockWrong,
      superblock,
      damagedHashBlocks: this.#hash,
      damagedDataBlocks: this.#data,
      unverifiableDataBlocks: this.#unverifiable,
      isIncomplete: this.#isIncomplete,
    };
  }

  #add(ranges: BlockRange[], range: BlockRange): void {
    if (!addBlocks(ranges, range, this.#limit)) this.#isIncomplete = true;
  }
}

function assertSize(source: BlockSource, needed: number, what: string): void {
  if (source.sizeBytes < needed) {
    throw new ErofsError("EROFS_TRUNCATED", `expected ${what} of ${needed} bytes, got ${source.sizeBytes}`);
  }
}
