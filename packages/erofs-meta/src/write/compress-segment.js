// JavaScript, not TypeScript: worker threads of Node 20 start from it both in the sources and in the built package.
import { encodeDeflate } from "../codecs/deflate-encode.js";
import { encodeLz4, LZ4_TABLE_SIZE } from "../codecs/lz4-encode.js";

/**
 * @typedef {object} CompressJob
 * @property {"lz4" | "deflate"} algorithm
 * @property {number} level of deflate
 * @property {number} blockSize bytes of a block, and of a logical cluster
 * @property {number} clusterSize most bytes an extent may take in the image, a multiple of the block size
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
 * @property {number} start of what is stored, extent behind extent, in the data of the batch
 */

/** Less than this share saved is not worth what reading it takes. */
const WORTHWHILE = 0.97;

/**
 * Compresses the segments of a batch.
 *
 * @param {CompressJob} job
 * @param {Uint8Array} input
 * @param {readonly Segment[]} segments
 * @returns {{ segments: CompressedSegment[], data: Uint8Array<ArrayBuffer> }}
 */
export function compressBatch(job, input, segments) {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const piece = new Uint8Array(job.clusterSize);
  const table = new Int32Array(job.algorithm === "lz4" ? LZ4_TABLE_SIZE : 0);
  const { blockSize } = job;
  // Every extent is at least as long as what it takes, the last ones of segments aside.
  const data = new Uint8Array(input.byteLength + segments.length * job.clusterSize);
  let to = 0;
  const compressed = segments.map((segment) => {
    const start = to;
    const extents = [];
    for (let at = segment.start; at < segment.end && !segment.isRaw; ) {
      const { consumed, length } = encode(job, input, view, at, segment.end, piece, table);
      const isEnd = at + consumed === segment.end;
      const taken = isEnd && segment.isLast ? length : roundUp(length, blockSize);
      if (taken < consumed * WORTHWHILE && isExpressible(at - segment.start, consumed, taken, isEnd, blockSize)) {
        data.set(piece.subarray(0, length), to);
        extents.push(consumed, length, 1);
        to += length;
        at += consumed;
      } else {
        const plain = Math.min(blockSize, segment.end - at);
        data.set(input.subarray(at, at + plain), to);
        extents.push(plain, plain, 0);
        to += plain;
        at += plain;
      }
    }
    const size = segment.end - segment.start;
    if (segment.isRaw || (segment.isWhole && storedSize(extents, blockSize) >= size * WORTHWHILE)) {
      data.set(input.subarray(segment.start, segment.end), start);
      to = start + size;
      return { isCompressed: false, extents: [], start };
    }
    return { isCompressed: true, extents, start };
  });
  return { segments: compressed, data: data.slice(0, to) };
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
 * @param {CompressJob} job
 * @param {Uint8Array} input
 * @param {DataView} view
 * @param {number} start
 * @param {number} end
 * @param {Uint8Array} output
 * @param {Int32Array} table
 */
function encode({ algorithm, level }, input, view, start, end, output, table) {
  if (algorithm === "lz4") return encodeLz4(input, view, start, end, output, table);
  return encodeDeflate(input, start, end, output, level);
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
