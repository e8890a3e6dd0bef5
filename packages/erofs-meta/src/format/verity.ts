/**
 * `struct verity_sb`, 512 bytes, little endian, at the start of the hash area.
 *
 * @see cryptsetup 2.6 `docs` (dm-verity on-disk format), Linux `Documentation/admin-guide/device-mapper/verity.rst`
 */
export const VERITY_SUPERBLOCK_SIZE = 512;
export const VERITY_SIGNATURE = new Uint8Array([0x76, 0x65, 0x72, 0x69, 0x74, 0x79, 0, 0]);
export const VERITY_VERSION = 1;
/** salt first, digests padded to a power of two; 0 is the original Chromium OS form */
export const VERITY_HASH_TYPE = 1;

export const VERITY = {
  signature: 0,
  version: 8,
  hashType: 12,
  uuid: 16,
  algorithm: 32,
  dataBlockSize: 64,
  hashBlockSize: 68,
  dataBlocks: 72,
  saltSize: 80,
  salt: 88,
  reserved: 344,
} as const;

export const VERITY_ALGORITHM_SIZE = 32;
export const VERITY_MAX_SALT_BYTES = 256;
export const VERITY_MIN_BLOCK_SIZE = 512;
export const VERITY_MAX_BLOCK_SIZE = 512 * 1024;

/** digest sizes in `bytes`, by the name the kernel's crypto API uses */
export const VERITY_DIGEST_SIZES = { sha1: 20, sha224: 28, sha256: 32, sha384: 48, sha512: 64 } as const;
