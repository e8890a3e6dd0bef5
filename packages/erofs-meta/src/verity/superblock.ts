import { ErofsError } from "../errors.ts";
import {
  VERITY,
  VERITY_ALGORITHM_SIZE,
  VERITY_DIGEST_SIZES,
  VERITY_HASH_TYPE,
  VERITY_MAX_BLOCK_SIZE,
  VERITY_MAX_SALT_BYTES,
  VERITY_MIN_BLOCK_SIZE,
  VERITY_SIGNATURE,
  VERITY_SUPERBLOCK_SIZE,
  VERITY_VERSION,
} from "../format/verity.ts";
import { assertLength, formatUuid, isZero, parseUuid, viewOf } from "../internal/bytes.ts";
import type { VerityAlgorithm } from "../options.ts";

/** What a dm-verity superblock says: everything needed to check a tree besides its root hash. */
export interface VeritySuperblock {
  /** UUID as text */
  readonly uuid: string;
  readonly algorithm: VerityAlgorithm;
  /** block size of the data in `bytes` */
  readonly dataBlockSize: number;
  /** block size of the tree in `bytes` */
  readonly hashBlockSize: number;
  /** number of data blocks */
  readonly dataBlocks: bigint;
  /** salt, 0..256 bytes; a copy when decoded */
  readonly salt: Uint8Array;
}

/**
 * Encodes a dm-verity superblock, format 1.
 *
 * @param superblock - Its fields; not retained.
 * @returns 512 bytes.
 * @throws {ErofsError} `EROFS_BAD_OPTIONS` for a salt over 256 bytes, a bad UUID or a block size that is not a power of
 *   two in 512..524288.
 * @see cryptsetup 2.6, dm-verity on-disk format
 * @example
 * const bytes = encodeVeritySuperblock({ uuid, algorithm: "sha256", dataBlockSize: 4096, hashBlockSize: 4096, dataBlocks: 16n, salt });
 */
export function encodeVeritySuperblock(superblock: VeritySuperblock): Uint8Array {
  const { salt, algorithm, dataBlockSize, hashBlockSize } = superblock;
  const uuid = parseUuid(superblock.uuid);
  if (uuid.byteLength !== 16) throw new ErofsError("EROFS_BAD_OPTIONS", `expected a UUID, got ${superblock.uuid}`);
  if (salt.byteLength > VERITY_MAX_SALT_BYTES) {
    throw new ErofsError("EROFS_BAD_OPTIONS", `expected a salt of at most 256 bytes, got ${salt.byteLength}`);
  }
  for (const size of [dataBlockSize, hashBlockSize]) {
    if (!isBlockSize(size)) {
      throw new ErofsError("EROFS_BAD_OPTIONS", `expected a block size that is a power of two, got ${size}`);
    }
  }
  const bytes = new Uint8Array(VERITY_SUPERBLOCK_SIZE);
  const view = viewOf(bytes);
  bytes.set(VERITY_SIGNATURE, VERITY.signature);
  view.setUint32(VERITY.version, VERITY_VERSION, true);
  view.setUint32(VERITY.hashType, VERITY_HASH_TYPE, true);
  bytes.set(uuid, VERITY.uuid);
  bytes.set(new TextEncoder().encode(algorithm), VERITY.algorithm);
  view.setUint32(VERITY.dataBlockSize, dataBlockSize, true);
  view.setUint32(VERITY.hashBlockSize, hashBlockSize, true);
  view.setBigUint64(VERITY.dataBlocks, superblock.dataBlocks, true);
  view.setUint16(VERITY.saltSize, salt.byteLength, true);
  bytes.set(salt, VERITY.salt);
  return bytes;
}

/**
 * Decodes a dm-verity superblock.
 *
 * @param bytes - The start of the hash area, at least 512 bytes; more is allowed.
 * @returns The fields; nothing aliases `bytes`.
 * @throws {ErofsError} `EROFS_TRUNCATED`, `EROFS_BAD_MAGIC`, `EROFS_UNSUPPORTED` for another version, hash type or hash
 *   function, `EROFS_CORRUPT` for sizes out of range and reserved bytes that are not zero.
 * @see cryptsetup 2.6, dm-verity on-disk format
 * @example
 * const { dataBlocks, salt } = decodeVeritySuperblock(await tree.read(0, 512));
 */
export function decodeVeritySuperblock(bytes: Uint8Array): VeritySuperblock {
  assertLength(bytes, VERITY_SUPERBLOCK_SIZE, "verity superblock", 0);
  const view = viewOf(bytes);
  if (VERITY_SIGNATURE.some((byte, index) => bytes[VERITY.signature + index] !== byte)) {
    throw new ErofsError("EROFS_BAD_MAGIC", "expected the signature 'verity', got another", { offset: 0 });
  }
  const version = view.getUint32(VERITY.version, true);
  if (version !== VERITY_VERSION) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected version 1, got ${version}`, { offset: VERITY.version });
  }
  const hashType = view.getUint32(VERITY.hashType, true);
  if (hashType !== VERITY_HASH_TYPE) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected hash type 1, got ${hashType}`, { offset: VERITY.hashType });
  }
  const dataBlockSize = view.getUint32(VERITY.dataBlockSize, true);
  const hashBlockSize = view.getUint32(VERITY.hashBlockSize, true);
  assertBlockSize(dataBlockSize, VERITY.dataBlockSize);
  assertBlockSize(hashBlockSize, VERITY.hashBlockSize);
  const saltSize = view.getUint16(VERITY.saltSize, true);
  if (saltSize > VERITY_MAX_SALT_BYTES) {
    throw new ErofsError("EROFS_CORRUPT", `expected a salt of at most 256 bytes, got ${saltSize}`, {
      offset: VERITY.saltSize,
    });
  }
  // What is not used has to be zero, so that one superblock has one encoding.
  assertZero(bytes, VERITY.saltSize + 2, VERITY.salt);
  assertZero(bytes, VERITY.salt + saltSize, VERITY_SUPERBLOCK_SIZE);
  return {
    uuid: formatUuid(bytes.subarray(VERITY.uuid, VERITY.uuid + 16)),
    algorithm: decodeAlgorithm(bytes.subarray(VERITY.algorithm, VERITY.algorithm + VERITY_ALGORITHM_SIZE)),
    dataBlockSize,
    hashBlockSize,
    dataBlocks: view.getBigUint64(VERITY.dataBlocks, true),
    salt: Uint8Array.from(bytes.subarray(VERITY.salt, VERITY.salt + saltSize)),
  };
}

function decodeAlgorithm(field: Uint8Array): VerityAlgorithm {
  const end = field.indexOf(0);
  const name = new TextDecoder().decode(end === -1 ? field : field.subarray(0, end));
  if (!isAlgorithm(name)) {
    const known = Object.keys(VERITY_DIGEST_SIZES).join(", ");
    throw new ErofsError("EROFS_UNSUPPORTED", `expected one of ${known}, got ${JSON.stringify(name)}`, {
      offset: VERITY.algorithm,
    });
  }
  assertZero(field, name.length, field.byteLength, VERITY.algorithm);
  return name;
}

function isAlgorithm(name: string): name is VerityAlgorithm {
  return Object.hasOwn(VERITY_DIGEST_SIZES, name);
}

function isBlockSize(size: number): boolean {
  return size >= VERITY_MIN_BLOCK_SIZE && size <= VERITY_MAX_BLOCK_SIZE && Number.isInteger(Math.log2(size));
}

function assertBlockSize(size: number, offset: number): void {
  if (isBlockSize(size)) return;
  throw new ErofsError("EROFS_CORRUPT", `expected a block size that is a power of two in 512..524288, got ${size}`, {
    offset,
  });
}

function assertZero(bytes: Uint8Array, start: number, end: number, base = 0): void {
  if (!isZero(bytes, start, end)) {
    throw new ErofsError("EROFS_CORRUPT", "expected unused bytes to be zero, got others", { offset: base + start });
  }
}
