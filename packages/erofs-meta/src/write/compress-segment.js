// JavaScript, not TypeScript: worker threads of Node 20 start from it both in the sources and in the built package.
import { encodeDeflate } from "../codecs/deflate-encode.js";
import { lz4Encoder } from "../codecs/lz4-encoder.js";

/**
 * @typedef {object} CompressJob
 * @property {"lz4" | "deflate"} algorithm
 * @property {number} level of deflate
 * @property {number} blockSize bytes of a block, and of a logical cluster
 * @property {number} clusterSize most bytes an extent may take in the image, a multiple of the block size
 * @property {object | undefined} lz4Module what `compileLz4Encoder` has made, for lz4
 */

/**
 * @typedef {object} Segment part of one file's content
 * @property {number} start in the batch
 * @property {number} end
 * @property {boolean} isLast it ends the file
 * @property {boolean} isRaw it is not to be compressed, and whole
 * @property {boolean} isWhole it is the whole file, which may turn out not to be worth compressing
 */

/**
 * @typedef {object} CompressedSegment
 * @property {boolean} isCompressed
 * @property {number[]} extents length, length stored, and whether it is compressed, for each of them
 * @property {number} start of what is stored, extent behind extent, in the output of the batch
 */

/** Less than this share saved is not worth what reading it takes. */
const WORTHWHILE = 0.97;

/**
 * @typedef {object} ExtentEncoder
 * @property {(input: Uint8Array) => void} begin takes the bytes of a batch
 * @property {(start: number, end: number, output: Uint8Array) => { consumed: number, length: number }} encode puts as much
 *   as fits into the output
 */

/**
 * Makes a compressor of batches, which answers what became of the segments and puts what is to be stored into `output`:
 * at most as much as there is input, because what does not get smaller is stored as it is.
 *
 * @param {CompressJob} job
 * @returns {(input: Uint8Array, segments: readonly Segment[], output: Uint8Array) => CompressedSegment[]}
 */
export function batchCompressor(job) {
  const { blockSize, clusterSize } = job;
  const encoder = encoderOf(job);
  const piece = new Uint8Array(clusterSize);
  return (input, segments, output) => compressBatch(blockSize, encoder, piece, input, segments, output);
}

/**
 * @param {CompressJob} job
 * @returns {ExtentEncoder}
 */
function encoderOf({ algorithm, level, clusterSize, lz4Module }) {
  if (algorithm === "lz4") return lz4Encoder(lz4Module, clusterSize);
  /** @type {Uint8Array} */
  let bytes = new Uint8Array(0);
  return {
    begin(input) {
      bytes = input;
    },
    encode: (start, end, output) => encodeDeflate(bytes, start, end, output, level),
  };
}

/**
 * @param {number} blockSize
 * @param {ExtentEncoder} encoder
 * @param {Uint8Array} piece room for an extent
 * @param {Uint8Array} input
 * @param {readonly Segment[]} segments
 * @param {Uint8Array} output
 * @returns {CompressedSegment[]}
 */
function compressBatch(blockSize, encoder, piece, input, segments, output) {
  encoder.begin(input);
  let to = 0;
  return segments.map((segment) => {
    const start = to;
    const extents = [];
    for (let at = segment.start; at < segment.end && !segment.isRaw; ) {
      const { consumed, length } = encoder.encode(at, segment.end, piece);
      const isEnd = at + consumed === segment.end;
      const taken = isEnd && segment.isLast ? length : roundUp(length, blockSize);
      if (taken < consumed * WORTHWHILE && isExpressible(at - segment.start, consumed, taken, isEnd, blockSize)) {
        output.set(piece.subarray(0, length), to);
        extents.push(consumed, length, 1);
        to += length;
        at += consumed;
      } else {
        const plain = Math.min(blockSize, segment.end - at);
        output.set(input.subarray(at, at + plain), to);
        extents.push(plain, plain, 0);
        to += plain;
        at += plain;
      }
    }
    const size = segment.end - segment.start;
    if (segment.isRaw || (segment.isWhole && storedSize(extents, blockSize) >= size * WORTHWHILE)) {
      output.set(input.subarray(segment.start, segment.end), start);
      to = start + size;
      return { isCompressed: false, extents: [], start };
    }
    return { isCompressed: true, extents, start };
  });
}

/**
 * An extent may not end in the cluster it starts in, unless the content does, and one of several blocks needs the index
 * of a cluster behind its first one to say how many.
 *
 * @param {number} start in the segment, which starts with a cluster
 * @param {number} length
 * @param {number} taken
 * @param {boolean} isEnd
 * @param {number} blockSize
 */
function isExpressible(start, length, taken, isEnd, blockSize) {
  const first = Math.floor(start / blockSize);
  const clusters = Math.floor((start + length) / blockSize) - first;
  return clusters >= (taken > blockSize ? 2 : isEnd ? 0 : 1);
}

/**
 * Bytes in the image with the index of two bytes for each block, the end of it behind the inode.
 *
 * @param {number[]} extents
 * @param {number} blockSize
 */
function storedSize(extents, blockSize) {
  let size = 16;
  let content = 0;
  for (let index = 0; index < extents.length; index += 3) {
    const stored = extents[index + 1] ?? 0;
    content += extents[index] ?? 0;
    size += index + 3 < extents.length ? roundUp(stored, blockSize) : stored;
  }
  return size + (2 * content) / blockSize;
}

/**
 * @param {number} value
 * @param {number} unit
 */
function roundUp(value, unit) {
  return Math.ceil(value / unit) * unit;
}
