import type { z } from "zod";
import type { BlockSource, ByteSink } from "../block-source.ts";
import { atomic } from "../internal/files.ts";
import { buildFecOptions, parseOptions, type VerityProgress } from "../options.ts";
import { type ProtectedBlocks, protectedBlocks } from "./layout.ts";
import { ParityEncoder } from "./reed-solomon.ts";

/** How to build parity. */
export interface BuildFecOptions {
  /** file to write (beside, then moved into place), or a sink */
  readonly output: string | ByteSink;
  /** bytes of parity for every 255 bytes, 2..24; 2 unless given */
  readonly roots?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** called after each couple of MiB */
  readonly onProgress?: ((event: VerityProgress) => void) | undefined;
}

/** What building parity gives. */
export interface VerityFec {
  readonly roots: number;
  /** size of the parity in `bytes` */
  readonly sizeBytes: number;
  /** what it protects: data, hash blocks and what follows these, in blocks */
  readonly protectedBlocks: number;
}

/** Data held while its parity is computed, in `bytes`. */
const CHUNK_SIZE = 8 * 1024 * 1024;

/**
 * Builds forward error correction for data and its hash tree, byte for byte what `veritysetup format --fec-device` writes.
 * With 2 roots (0.8 % more room) one block of every 253 can be lost wherever it is; with 24 (10 %), 24 of 231.
 *
 * @param data - The data. Not closed.
 * @param tree - The hash area, starting with its superblock; everything in it is protected. Not closed.
 * @param options - See {@link BuildFecOptions}.
 * @throws {ErofsError} What `decodeVeritySuperblock` throws; `EROFS_UNSUPPORTED` when data and tree have different block
 *   sizes, `EROFS_TRUNCATED`, `EROFS_BAD_OPTIONS`; `EROFS_DISK_FULL` and `EROFS_IO` from writing, after which nothing is
 *   left. An abort throws the signal's reason.
 * @see Linux v6.12 `Documentation/admin-guide/device-mapper/verity.rst`, "use_fec_from_device"
 * @example
 * await buildVerityFec(data, tree, { output: "usr.fec" });
 */
export async function buildVerityFec(
  data: BlockSource,
  tree: BlockSource,
  options: BuildFecOptions,
): Promise<VerityFec> {
  const { output, ...rest } = parseOptions(buildFecOptions, options);
  const blocks = await protectedBlocks(data, tree, rest.roots);
  if (typeof output === "string") await atomic.write(output, (sink) => writeParity(blocks, sink, rest));
  else await writeParity(blocks, output, rest);
  const { sizeBytes, blocks: count } = blocks.layout;
  return { roots: rest.roots, sizeBytes, protectedBlocks: count };
}

type ParityOptions = Omit<z.output<typeof buildFecOptions>, "output">;

async function writeParity(protectedOnes: ProtectedBlocks, sink: ByteSink, options: ParityOptions): Promise<void> {
  const { signal, onProgress, roots } = options;
  const { blockSize, dataSymbols, rounds, blocks } = protectedOnes.layout;
  const encoder = new ParityEncoder(roots);
  const perChunk = Math.max(1, Math.floor(CHUNK_SIZE / (dataSymbols * blockSize)));
  const rows = new Uint8Array(dataSymbols * perChunk * blockSize);
  for (let round = 0; round < rounds; round += perChunk) {
    signal?.throwIfAborted();
    const count = Math.min(perChunk, rounds - round);
    const length = count * blockSize;
    for (let symbol = 0; symbol < dataSymbols; symbol += 1) {
      await protectedOnes.read(rows.subarray(symbol * length, (symbol + 1) * length), symbol * rounds + round, count);
    }
    await sink.write(round * blockSize * roots, encoder.encode(rows.subarray(0, dataSymbols * length), length));
    const share = (round + count) / rounds;
    onProgress?.({ doneBytes: Math.round(share * blocks) * blockSize, totalBytes: blocks * blockSize });
  }
}
