import type { z } from "zod";
import type { BlockSource, ByteSink } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { atomic } from "../internal/files.ts";
import { buildVerityOptions, parseOptions, type VerityAlgorithm, type VerityProgress } from "../options.ts";
import { type DigestBatch, digestsOf } from "./block-hasher.ts";
import { hashJob } from "./digests.ts";
import { type VerityGeometry, verityGeometry } from "./geometry.ts";
import { type HashJob, hashBlocks } from "./hash-blocks.js";
import { encodeVeritySuperblock, type VeritySuperblock } from "./superblock.ts";

/** How to build a hash tree. */
export interface BuildVerityOptions {
  /** file to write (beside, then moved into place), or a sink whose unwritten bytes are zeros */
  readonly output: string | ByteSink;
  /** salt, 0..256 bytes */
  readonly salt: Uint8Array;
  /** UUID for the superblock */
  readonly uuid: string;
  /** block size of the data in `bytes`, 4096 */
  readonly dataBlockSize?: number | undefined;
  /** block size of the tree in `bytes`, 4096 */
  readonly hashBlockSize?: number | undefined;
  /** hash function, `sha256` */
  readonly algorithm?: VerityAlgorithm | undefined;
  /** worker threads besides the calling one, which hashes too; one less than cores for large data unless given */
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** called after each couple of MiB */
  readonly onProgress?: ((event: VerityProgress) => void) | undefined;
}

/** What building a tree gives. */
export interface VerityTree {
  /** digest that vouches for everything below it */
  readonly rootHash: Uint8Array;
  /** what was written at the start of the hash area */
  readonly superblock: VeritySuperblock;
  /** size of the hash area with its superblock in `bytes` */
  readonly treeSizeBytes: number;
  /** size of the data in `bytes` */
  readonly dataSizeBytes: number;
}

/** Finished hash blocks gathered before they are written. */
const WRITE_SIZE = 256 * 1024;

/**
 * Builds a dm-verity hash tree, superblock first, byte for byte what `veritysetup format` writes with the same salt and
 * UUID. Memory use does not depend on the size of the data.
 *
 * @param source - The data; its size has to be a multiple of the data block size. Not closed.
 * @param options - Salt, UUID, sizes and where to write; see {@link BuildVerityOptions}.
 * @returns The root hash and the superblock.
 * @throws {ErofsError} `EROFS_BAD_OPTIONS` for bad options or data that is no whole number of blocks, `EROFS_DISK_FULL`
 *   and `EROFS_IO` from writing. Nothing is left behind then. An abort throws the signal's reason.
 * @see Linux v6.12 `Documentation/admin-guide/device-mapper/verity.rst`
 * @example
 * await using data = await fileSource("usr.erofs");
 * const { rootHash } = await buildVerityTree(data, { output: "usr.verity", salt, uuid });
 */
export async function buildVerityTree(source: BlockSource, options: BuildVerityOptions): Promise<VerityTree> {
  const { output, ...rest } = parseOptions(buildVerityOptions, options);
  if (source.sizeBytes === 0 || source.sizeBytes % rest.dataBlockSize !== 0) {
    const message = `expected data of one or more blocks of ${rest.dataBlockSize} bytes, got ${source.sizeBytes} bytes`;
    throw new ErofsError("EROFS_BAD_OPTIONS", message);
  }
  if (typeof output === "string") return atomic.write(output, (sink) => writeTree(source, sink, rest));
  return writeTree(source, output, rest);
}

type TreeOptions = Omit<z.output<typeof buildVerityOptions>, "output">;

async function writeTree(source: BlockSource, sink: ByteSink, options: TreeOptions): Promise<VerityTree> {
  const { algorithm, dataBlockSize, hashBlockSize, salt, uuid, onProgress } = options;
  const superblock: VeritySuperblock = {
    uuid,
    algorithm,
    dataBlockSize,
    hashBlockSize,
    dataBlocks: BigInt(source.sizeBytes / dataBlockSize),
    salt: Uint8Array.from(salt),
  };
  const geometry = verityGeometry(superblock);
  const tree = new TreeWriter(superblock, geometry, sink);
  for await (const batch of digestsOf(
    source,
    hashJob(superblock, geometry, dataBlockSize),
    geometry.dataBlocks,
    options,
  )) {
    await tree.append(batch);
    onProgress?.({ doneBytes: (batch.first + batch.count) * dataBlockSize, totalBytes: source.sizeBytes });
  }
  const rootHash = await tree.finish();
  // The superblock goes last: a tree that was not finished does not look like one.
  const head = new Uint8Array(hashBlockSize);
  head.set(encodeVeritySuperblock(superblock));
  await sink.write(0, head);
  return { rootHash, superblock, treeSizeBytes: geometry.treeSizeBytes, dataSizeBytes: source.sizeBytes };
}

/** Takes the digests of the data in order and writes every level as its blocks fill up. */
class TreeWriter {
  readonly #levels: LevelWriter[];
  readonly #geometry: VerityGeometry;
  #root: Uint8Array | undefined;

  constructor(superblock: VeritySuperblock, geometry: VerityGeometry, sink: ByteSink) {
    this.#geometry = geometry;
    const job = hashJob(superblock, geometry, superblock.hashBlockSize);
    this.#levels = geometry.levels.map(({ offset }) => new LevelWriter(job, offset, sink));
  }

  async append(batch: DigestBatch): Promise<void> {
    const { digestStride, digestSize } = this.#geometry;
    const [lowest] = this.#levels;
    if (lowest === undefined) this.#root = Uint8Array.from(batch.digests.subarray(0, digestSize));
    else await this.#push(0, lowest, batch.digests.subarray(0, batch.count * digestStride));
  }

  /** Completes the last block of every level, lowest first, and returns the root hash. */
  async finish(): Promise<Uint8Array> {
    for (const [index, level] of this.#levels.entries()) await this.#up(index, await level.finish());
    if (this.#root === undefined) throw new Error("bug: a hash tree ended without a root hash");
    return this.#root;
  }

  async #push(index: number, level: LevelWriter, digests: Uint8Array): Promise<void> {
    for (let at = 0; at < digests.byteLength; ) {
      at += level.fill(digests.subarray(at));
      await this.#up(index, await level.flush());
    }
  }

  async #up(index: number, digests: Uint8Array): Promise<void> {
    if (digests.byteLength === 0) return;
    const above = this.#levels[index + 1];
    if (above === undefined) this.#root = Uint8Array.from(digests.subarray(0, this.#geometry.digestSize));
    else await this.#push(index + 1, above, digests);
  }
}

/** One level: gathers digests into hash blocks, writes full ones, and returns their digests for the level above. */
class LevelWriter {
  readonly #job: HashJob;
  readonly #sink: ByteSink;
  readonly #buffer: Uint8Array;
  #filled = 0;
  #offset: number;

  constructor(job: HashJob, offset: number, sink: ByteSink) {
    this.#job = job;
    this.#offset = offset;
    this.#sink = sink;
    this.#buffer = new Uint8Array(Math.max(1, Math.floor(WRITE_SIZE / job.blockSize)) * job.blockSize);
  }

  /** @returns how much of `digests` found room. */
  fill(digests: Uint8Array): number {
    const taken = Math.min(digests.byteLength, this.#buffer.byteLength - this.#filled);
    this.#buffer.set(digests.subarray(0, taken), this.#filled);
    this.#filled += taken;
    return taken;
  }

  async flush(): Promise<Uint8Array> {
    return this.#filled === this.#buffer.byteLength ? this.#write(this.#filled) : new Uint8Array(0);
  }

  /** Writes what is there, the last block filled up with zeros. */
  async finish(): Promise<Uint8Array> {
    if (this.#filled === 0) return new Uint8Array(0);
    const { blockSize } = this.#job;
    const end = Math.ceil(this.#filled / blockSize) * blockSize;
    this.#buffer.fill(0, this.#filled, end);
    return this.#write(end);
  }

  async #write(length: number): Promise<Uint8Array> {
    const { salt } = this.#job;
    const blocks = this.#buffer.subarray(0, length);
    await this.#sink.write(this.#offset, blocks);
    const salted = new Uint8Array(salt.byteLength + length);
    salted.set(blocks, salt.byteLength);
    this.#offset += length;
    this.#filled = 0;
    return hashBlocks(this.#job, salted);
  }
}
