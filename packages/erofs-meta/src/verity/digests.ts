import type { VerityGeometry } from "./geometry.ts";
import { type HashJob, hashBlocks } from "./hash-blocks.js";
import type { VeritySuperblock } from "./superblock.ts";

/** The parameters `hashBlocks` needs for blocks of one size. */
export function hashJob(superblock: VeritySuperblock, geometry: VerityGeometry, blockSize: number): HashJob {
  const { digestSize, digestStride } = geometry;
  return { algorithm: superblock.algorithm, salt: superblock.salt, blockSize, digestSize, digestStride };
}

/** Whether a block's content has the digest that vouches for it. */
export function hasDigest(
  block: Uint8Array,
  digest: Uint8Array,
  superblock: VeritySuperblock,
  geometry: VerityGeometry,
): boolean {
  const { salt } = superblock;
  const salted = new Uint8Array(salt.byteLength + block.byteLength);
  salted.set(block, salt.byteLength);
  const got = hashBlocks(hashJob(superblock, geometry, block.byteLength), salted);
  return Buffer.compare(got.subarray(0, digest.byteLength), digest) === 0;
}
