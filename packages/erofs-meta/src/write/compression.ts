import type { z } from "zod";
import { compileLz4Encoder } from "../codecs/lz4-encode-wasm.ts";
import {
  DEFLATE_RECORD,
  DEFLATE_WINDOW_BITS,
  INCOMPAT_COMPRESSION_RECORDS,
  INCOMPAT_ZERO_PADDING,
  LZ4_MAX_DISTANCE,
  LZ4_RECORD,
} from "../format/compression.ts";
import { COMPRESSION_ALGORITHMS } from "../format/superblock.ts";
import { viewOf } from "../internal/bytes.ts";
import type { writeErofsOptions } from "../options.ts";
import { CompressingPlacer } from "./compressing-placer.ts";
import type { ContentOutput } from "./content.ts";
import type { CompressionFields } from "./encode.ts";

const DEFAULT_CLUSTER_SIZE = { lz4: 4096, deflate: 65536 } as const;

/** What compression means for an image. */
export interface ImageCompression {
  /** features that readers have to know */
  readonly incompat: number;
  readonly fields: CompressionFields;
  placer(output: ContentOutput): CompressingPlacer;
}

/** Works out what the options say about compression. */
export function compressionOf(
  options: Omit<z.output<typeof writeErofsOptions>, "output">,
): ImageCompression | undefined {
  const { compression, blockSize, workers } = options;
  if (compression === undefined) return undefined;
  const { algorithm, level } = compression;
  const { clusterSize = DEFAULT_CLUSTER_SIZE[algorithm] } = compression;
  const number = COMPRESSION_ALGORITHMS.indexOf(algorithm);
  // lz4 in single blocks is what the oldest kernels read; anything else has to be announced.
  const hasRecords = algorithm !== "lz4" || clusterSize > blockSize;
  return {
    incompat: INCOMPAT_ZERO_PADDING | (hasRecords ? INCOMPAT_COMPRESSION_RECORDS : 0),
    fields: hasRecords
      ? { algorithms: 2 ** number, records: encodeRecord(algorithm, clusterSize / blockSize) }
      : { algorithms: LZ4_MAX_DISTANCE, records: new Uint8Array(0) },
    placer: (output) => {
      const lz4Module = algorithm === "lz4" ? compileLz4Encoder() : undefined;
      return new CompressingPlacer({ algorithm, level, blockSize, clusterSize, lz4Module }, number, output, workers);
    },
  };
}

function encodeRecord(algorithm: "lz4" | "deflate", maxBlocks: number): Uint8Array {
  const size = algorithm === "lz4" ? LZ4_RECORD.size : DEFLATE_RECORD.size;
  const bytes = new Uint8Array(2 + size);
  const view = viewOf(bytes);
  view.setUint16(0, size, true);
  const record = viewOf(bytes.subarray(2));
  if (algorithm === "lz4") {
    record.setUint16(LZ4_RECORD.maxDistance, LZ4_MAX_DISTANCE, true);
    record.setUint16(LZ4_RECORD.maxBlocks, maxBlocks, true);
  } else record.setUint8(DEFLATE_RECORD.windowBits, DEFLATE_WINDOW_BITS);
  return bytes;
}
