import { createHash } from "node:crypto";
import type { BlockSource } from "../block-source.ts";
import {
  COMPOSEFS_BLOCK_SIZE,
  FS_VERITY_DESCRIPTOR,
  FS_VERITY_DESCRIPTOR_SIZE,
  FS_VERITY_SHA256,
} from "../format/composefs.ts";
import { viewOf } from "../internal/bytes.ts";

const DIGEST_SIZE = 32;
const DIGESTS_PER_BLOCK = COMPOSEFS_BLOCK_SIZE / DIGEST_SIZE;
const READ_SIZE = 1024 * 1024;

/**
 * Computes a file's fs-verity digest: SHA-256 over blocks of 4096 bytes, without a salt, which is what composefs and
 * `fsverity digest` use.
 *
 * @param source - The file. Not closed.
 * @param options - `signal` to abort.
 * @returns 32 bytes.
 * @see Linux v6.12 `Documentation/filesystems/fsverity.rst`, "File digest computation"
 * @example
 * const digest = await fsVerityDigest(await fileSource("usr/bin/true"));
 */
export async function fsVerityDigest(
  source: BlockSource,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Uint8Array> {
  const tree = new MerkleTree();
  for (let at = 0; at < source.sizeBytes; at += READ_SIZE) {
    options.signal?.throwIfAborted();
    const piece = await source.read(at, Math.min(READ_SIZE, source.sizeBytes - at));
    for (let start = 0; start < piece.byteLength; start += COMPOSEFS_BLOCK_SIZE) {
      tree.append(digestOfBlock(piece.subarray(start, start + COMPOSEFS_BLOCK_SIZE)));
    }
  }
  const descriptor = new Uint8Array(FS_VERITY_DESCRIPTOR_SIZE);
  const view = viewOf(descriptor);
  view.setUint8(FS_VERITY_DESCRIPTOR.version, 1);
  view.setUint8(FS_VERITY_DESCRIPTOR.hashAlgorithm, FS_VERITY_SHA256);
  view.setUint8(FS_VERITY_DESCRIPTOR.logBlockSize, Math.log2(COMPOSEFS_BLOCK_SIZE));
  view.setBigUint64(FS_VERITY_DESCRIPTOR.dataSize, BigInt(source.sizeBytes), true);
  // The root of nothing is zeros.
  descriptor.set(tree.root(), FS_VERITY_DESCRIPTOR.rootHash);
  return new Uint8Array(createHash("sha256").update(descriptor).digest());
}

/** Keeps one unfinished block for each level. */
class MerkleTree {
  readonly #levels: Uint8Array[][] = [];

  append(digest: Uint8Array, level = 0): void {
    this.#levels[level] ??= [];
    const digests = this.#levels[level];
    digests.push(digest);
    if (digests.length < DIGESTS_PER_BLOCK) return;
    this.#levels[level] = [];
    this.append(digestOfBlock(Buffer.concat(digests)), level + 1);
  }

  root(): Uint8Array {
    for (let level = 0; level < this.#levels.length; level += 1) {
      const digests = this.#levels[level] ?? [];
      const isTop = this.#levels.slice(level + 1).every((above) => above.length === 0);
      if (isTop && digests.length === 1) return digests[0] ?? new Uint8Array(DIGEST_SIZE);
      if (digests.length === 0) continue;
      this.#levels[level] = [];
      this.append(digestOfBlock(Buffer.concat(digests)), level + 1);
    }
    return new Uint8Array(DIGEST_SIZE);
  }
}

/** What is missing of a block counts as zeros. */
function digestOfBlock(bytes: Uint8Array): Uint8Array {
  const padding = new Uint8Array(COMPOSEFS_BLOCK_SIZE - bytes.byteLength);
  return new Uint8Array(createHash("sha256").update(bytes).update(padding).digest());
}
