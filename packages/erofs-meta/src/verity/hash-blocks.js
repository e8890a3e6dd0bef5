// JavaScript, not TypeScript: Node 20 starts worker threads from it both in the sources and in the built package.
import * as crypto from "node:crypto";

/**
 * @typedef {object} HashJob
 * @property {string} algorithm name `node:crypto` knows
 * @property {Uint8Array} salt
 * @property {number} blockSize bytes per data block
 * @property {number} digestStride bytes between digests in the result
 * @property {number} digestSize bytes per digest
 */

/**
 * Hashes salt and block for every block of a buffer that starts with room for the salt. The buffer is used up: the
 * salt is put in front of each block in turn, over the end of the block before, so that salt and block are one piece
 * of memory and `crypto.hash` is called once per block without copying it.
 *
 * @param {HashJob} job
 * @param {Uint8Array} buffer `salt.byteLength` bytes of room, then whole blocks
 * @returns {Uint8Array<ArrayBuffer>} digests, `digestStride` apart
 */
export function hashBlocks(job, buffer) {
  const { algorithm, salt, blockSize, digestStride } = job;
  const saltSize = salt.byteLength;
  const count = (buffer.byteLength - saltSize) / blockSize;
  const digests = Buffer.alloc(count * digestStride);
  for (let index = 0; index < count; index += 1) {
    const start = index * blockSize;
    buffer.set(salt, start);
    // A one-byte-per-character string is cheaper to get out of OpenSSL than a Buffer: measured 20 % of the whole.
    const digest = crypto.hash(algorithm, buffer.subarray(start, start + saltSize + blockSize), "binary");
    digests.write(digest, index * digestStride, "latin1");
  }
  return new Uint8Array(digests.buffer, digests.byteOffset, digests.byteLength);
}
