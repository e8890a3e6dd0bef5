import { constants, inflateRawSync } from "node:zlib";
import { decodeLz4 } from "../codecs/lz4-decode.ts";
import type { Lz4Decoder } from "../codecs/lz4-wasm.ts";
import { decodeMicroLzma } from "../codecs/micro-lzma-decode.ts";
import { decodeZstd } from "../codecs/zstd/decode.ts";
import { ErofsError } from "../errors.ts";
import type { StoredExtent } from "./compressed-map.ts";

/** What decoding has to know of the image. */
export interface DecodeContext {
  readonly blockSize: number;
  /** stored extents start with zeros instead of ending with them */
  readonly isZeroPadded: boolean;
  readonly lz4: Lz4Decoder;
}

/**
 * Decodes the first `output.byteLength` bytes of an extent.
 *
 * @param stored - The extent's bytes in the image.
 */
export function decodeExtent(
  extent: StoredExtent,
  stored: Uint8Array,
  output: Uint8Array,
  context: DecodeContext,
): void {
  const { encoding, position } = extent;
  if (encoding === "none") {
    if (output.byteLength > stored.byteLength) throw tooShort(extent, stored.byteLength);
    output.set(stored.subarray(0, output.byteLength));
    return;
  }
  if (encoding === "interlaced") {
    if (output.byteLength > stored.byteLength) throw tooShort(extent, stored.byteLength);
    // Content byte n of an extent is at n modulo the block size, counted from the start of the content.
    const rotation = extent.start % context.blockSize;
    const right = Math.min(output.byteLength, stored.byteLength - rotation);
    output.set(stored.subarray(rotation, rotation + right));
    output.set(stored.subarray(0, output.byteLength - right), right);
    return;
  }
  if (encoding === "lz4") {
    const padding = context.isZeroPadded ? leadingZeros(stored, context.blockSize) : 0;
    const input = padding === 0 ? stored : stored.subarray(padding);
    // The slow decoder says what is wrong and where.
    if (!context.lz4.decode(input, output)) decodeLz4(input, output, position + padding);
    return;
  }
  if (encoding === "deflate") {
    inflate(stored.subarray(leadingZeros(stored, context.blockSize)), output, position);
    return;
  }
  const padding = leadingZeros(stored, context.blockSize);
  const decode = encoding === "lzma" ? decodeMicroLzma : decodeZstd;
  decode(stored.subarray(padding), output, position + padding);
}

function tooShort({ position, length }: StoredExtent, stored: number): ErofsError {
  return new ErofsError("EROFS_CORRUPT", `expected at most ${stored} bytes in an uncompressed extent, got ${length}`, {
    offset: position,
  });
}

/** Padding is less than a block; data that starts with a zero byte does not exist in the formats stored this way. */
function leadingZeros(stored: Uint8Array, blockSize: number): number {
  const most = Math.min(stored.byteLength, blockSize);
  let count = 0;
  while (count < most && stored[count] === 0) count += 1;
  return count;
}

function inflate(input: Uint8Array, output: Uint8Array, offset: number): void {
  let decoded: Uint8Array;
  try {
    // A reference to the first part of an extent ends before the stream does; the most deflate can make of 1 MiB is 1 GiB.
    decoded = inflateRawSync(input, {
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: MAX_INFLATED_SIZE,
      chunkSize: Math.max(64, output.byteLength),
    });
  } catch (error) {
    throw new ErofsError("EROFS_CORRUPT", "expected deflate data, got something else", { offset, cause: error });
  }
  if (decoded.byteLength < output.byteLength) {
    throw new ErofsError(
      "EROFS_CORRUPT",
      `expected ${output.byteLength} bytes of deflate data, got ${decoded.byteLength}`,
      {
        offset,
      },
    );
  }
  output.set(decoded.subarray(0, output.byteLength));
}

/** Behind what an extent may decode to, a stream is a bomb. */
const MAX_INFLATED_SIZE = 16 * 1024 * 1024;
