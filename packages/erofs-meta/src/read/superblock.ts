import { ErofsError } from "../errors.ts";
import { NID_IN_METABOX } from "../format/inode.ts";
import {
  COMPAT_FEATURES,
  COMPAT_SB_CHKSUM,
  COMPRESSION_ALGORITHMS,
  EXTENSION_SLOT_SIZE,
  INCOMPAT_48BIT,
  INCOMPAT_DEVICE_TABLE,
  INCOMPAT_FEATURES,
  INCOMPAT_METABOX,
  MAX_BLOCK_SIZE_BITS,
  MIN_BLOCK_SIZE_BITS,
  SUPERBLOCK,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "../format/superblock.ts";
import { assertLength, formatUuid, viewOf } from "../internal/bytes.ts";
import { crc32c } from "../internal/crc32c.ts";

/** Decoded EROFS superblock. */
export interface Superblock {
  /** block size in `bytes`, a power of two in 512..65536 */
  readonly blockSize: number;
  /** stored CRC-32C of the first block; checked when `sb_chksum` is among the features */
  readonly checksum: number;
  /** number of inodes */
  readonly inodes: bigint;
  /** image size in `blocks` of the primary device */
  readonly blocks: number;
  /** node number of the root directory */
  readonly rootNid: bigint;
  /** node number of the inode that holds packed fragments; 0 when there is none */
  readonly packedNid: bigint;
  /** node number of the inode whose content is the metadata box; 0 when there is none */
  readonly metaboxNid: bigint;
  /** start of the inode area in `blocks` */
  readonly metaBlock: number;
  /** start of the shared xattr area in `blocks` */
  readonly xattrBlock: number;
  /** when the image was built, `seconds` since 1970 */
  readonly buildTime: bigint;
  /** fraction of `buildTime` in `nanoseconds` */
  readonly buildTimeNsec: number;
  /** what compact inodes count their time from, `seconds` since 1970 */
  readonly epoch: bigint;
  /** volume UUID as text */
  readonly uuid: string;
  /** volume name, at most 16 bytes on disk */
  readonly volumeName: string;
  /** names of the compatible features; an unknown bit is named by its value, such as `0x100` */
  readonly compatFeatures: readonly string[];
  /** names of the incompatible features; pairs that share a bit on disk are named together */
  readonly incompatFeatures: readonly string[];
  /** the feature words as stored */
  readonly rawFeatures: { readonly compat: number; readonly incompat: number };
  /** compression algorithms that file data may use, when the image says so */
  readonly compressionAlgorithms: readonly string[];
  /** number of devices besides this one */
  readonly extraDevices: number;
  /** position of their table, in units of `128 bytes` */
  readonly deviceTableSlot: number;
  /** number of long xattr name prefixes */
  readonly xattrPrefixCount: number;
  /** position of the long xattr name prefixes, in units of `4 bytes` */
  readonly xattrPrefixStart: number;
}

/**
 * Decodes the superblock of an EROFS image.
 *
 * @param image - The first block of the image, or 1152 bytes when that is longer; not retained, not modified. More is
 *   allowed.
 * @returns The fields in host representation.
 * @throws {ErofsError} `EROFS_TRUNCATED` when `image` ends before the superblock or before the bytes its checksum
 *   covers, `EROFS_BAD_MAGIC` when bytes 1024..1028 are not `E2 E1 F5 E0`, `EROFS_BAD_CHECKSUM`, `EROFS_UNSUPPORTED`
 *   for a block size or an incompatible feature this package does not know.
 * @see Linux v6.12 and v6.18 `fs/erofs/super.c`, `erofs_read_superblock`
 * @example
 * const { blockSize, uuid } = decodeSuperblock(await readFile("usr.erofs"));
 */
export function decodeSuperblock(image: Uint8Array): Superblock {
  assertLength(image, SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE, "image up to the end of the superblock", 0);
  const bytes = image.subarray(SUPERBLOCK_OFFSET);
  const view = viewOf(bytes);
  const at = (field: keyof typeof SUPERBLOCK): number => SUPERBLOCK_OFFSET + SUPERBLOCK[field];

  const magic = view.getUint32(SUPERBLOCK.magic, true);
  if (magic !== SUPERBLOCK_MAGIC) {
    throw new ErofsError("EROFS_BAD_MAGIC", `expected magic e0f5e1e2, got ${hex(magic, 8)}`, { offset: at("magic") });
  }
  const blockSizeBits = view.getUint8(SUPERBLOCK.blockSizeBits);
  if (blockSizeBits < MIN_BLOCK_SIZE_BITS || blockSizeBits > MAX_BLOCK_SIZE_BITS) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected a block size of 2^9..2^16, got 2^${blockSizeBits}`, {
      offset: at("blockSizeBits"),
    });
  }
  const blockSize = 2 ** blockSizeBits;
  const compat = view.getUint32(SUPERBLOCK.featureCompat, true);
  const checksum = view.getUint32(SUPERBLOCK.checksum, true);
  if ((compat & COMPAT_SB_CHKSUM) !== 0) assertChecksum(image, blockSize, checksum);

  const incompat = view.getUint32(SUPERBLOCK.featureIncompat, true);
  assertKnownFeatures(incompat, at("featureIncompat"));
  const directoryBlockBits = view.getUint8(SUPERBLOCK.directoryBlockBits);
  if (directoryBlockBits !== 0) {
    throw new ErofsError("EROFS_UNSUPPORTED", `expected directory blocks of one block, got 2^${directoryBlockBits}`, {
      offset: at("directoryBlockBits"),
    });
  }
  const extensionSlots = view.getUint8(SUPERBLOCK.extensionSlots);
  assertExtensionsFit(extensionSlots, blockSize);

  const isWide = (incompat & INCOMPAT_48BIT) !== 0;
  const wideRoot = isWide ? view.getBigUint64(SUPERBLOCK.wideRootNid, true) : 0n;
  const epoch = view.getBigInt64(SUPERBLOCK.epoch, true);
  const packedNid = view.getBigUint64(SUPERBLOCK.packedNid, true);
  assertOutsideMetabox(packedNid, at("packedNid"));
  const hasDevices = (incompat & INCOMPAT_DEVICE_TABLE) !== 0;
  return {
    blockSize,
    checksum,
    inodes: view.getBigUint64(SUPERBLOCK.inodes, true),
    blocks:
      view.getUint32(SUPERBLOCK.blocks, true) +
      (wideRoot === 0n ? 0 : view.getUint16(SUPERBLOCK.blocksHigh, true) * 2 ** 32),
    rootNid: wideRoot === 0n ? BigInt(view.getUint16(SUPERBLOCK.rootNid, true)) : wideRoot,
    packedNid,
    metaboxNid: (incompat & INCOMPAT_METABOX) === 0 ? 0n : metaboxOf(image, extensionSlots),
    metaBlock: view.getUint32(SUPERBLOCK.metaBlock, true),
    xattrBlock: view.getUint32(SUPERBLOCK.xattrBlock, true),
    buildTime: epoch + BigInt(view.getUint32(SUPERBLOCK.buildTime, true)),
    buildTimeNsec: view.getUint32(SUPERBLOCK.epochNsec, true),
    epoch,
    uuid: formatUuid(bytes.subarray(SUPERBLOCK.uuid, SUPERBLOCK.uuid + 16)),
    volumeName: decodeName(bytes.subarray(SUPERBLOCK.volumeName, SUPERBLOCK.volumeName + 16)),
    compatFeatures: namesOf(compat, COMPAT_FEATURES),
    incompatFeatures: namesOf(incompat, INCOMPAT_FEATURES),
    rawFeatures: { compat, incompat },
    compressionAlgorithms: algorithmsOf(view.getUint16(SUPERBLOCK.compressionAlgorithms, true), incompat),
    extraDevices: hasDevices ? view.getUint16(SUPERBLOCK.extraDevices, true) : 0,
    deviceTableSlot: view.getUint16(SUPERBLOCK.deviceTableSlot, true),
    xattrPrefixCount: view.getUint8(SUPERBLOCK.xattrPrefixCount),
    xattrPrefixStart: view.getUint32(SUPERBLOCK.xattrPrefixStart, true),
  };
}

/** The metadata box cannot be a part of itself, and what fragments are in has to be outside of it. */
function assertOutsideMetabox(nid: bigint, offset: number): void {
  if ((nid & NID_IN_METABOX) === 0n) return;
  throw new ErofsError("EROFS_CORRUPT", `expected a node outside of the metadata box, got ${nid}`, { offset });
}

function metaboxOf(image: Uint8Array, extensionSlots: number): bigint {
  const offset = SUPERBLOCK_OFFSET + SUPERBLOCK.metaboxNid;
  if (extensionSlots === 0) {
    throw new ErofsError("EROFS_CORRUPT", "expected a superblock with a metadata box, got a shorter one", { offset });
  }
  assertLength(image, offset + 8, "image up to the end of the superblock", 0);
  const nid = viewOf(image).getBigUint64(offset, true);
  assertOutsideMetabox(nid, offset);
  return nid;
}

function assertChecksum(image: Uint8Array, blockSize: number, stored: number): void {
  // The checksum covers the rest of the first block, or one whole block when the block ends before the superblock does.
  const end = blockSize > SUPERBLOCK_OFFSET ? blockSize : SUPERBLOCK_OFFSET + blockSize;
  assertLength(image, end, "image covered by the superblock's checksum", 0);
  let register = crc32c(0xffffffff, image.subarray(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + SUPERBLOCK.checksum));
  register = crc32c(register, new Uint8Array(4));
  register = crc32c(register, image.subarray(SUPERBLOCK_OFFSET + SUPERBLOCK.featureCompat, end));
  if (register !== stored) {
    throw new ErofsError("EROFS_BAD_CHECKSUM", `expected checksum ${hex(stored, 8)}, got ${hex(register, 8)}`, {
      offset: SUPERBLOCK_OFFSET + SUPERBLOCK.checksum,
    });
  }
}

function assertKnownFeatures(incompat: number, offset: number): void {
  const unknown: string[] = [];
  for (const bit of bitsOf(incompat)) {
    if (!INCOMPAT_FEATURES.has(bit)) unknown.push(`0x${bit.toString(16)}`);
  }
  if (unknown.length > 0) {
    throw new ErofsError("EROFS_UNSUPPORTED", `cannot read images with the feature ${unknown.join(", ")}`, { offset });
  }
}

function assertExtensionsFit(slots: number, blockSize: number): void {
  const size = SUPERBLOCK_SIZE + slots * EXTENSION_SLOT_SIZE;
  const room = blockSize > SUPERBLOCK_OFFSET ? blockSize - SUPERBLOCK_OFFSET : blockSize;
  if (size > room) {
    throw new ErofsError("EROFS_CORRUPT", `expected a superblock of at most ${room} bytes, got ${size}`, {
      offset: SUPERBLOCK_OFFSET + SUPERBLOCK.extensionSlots,
    });
  }
}

function namesOf(word: number, names: ReadonlyMap<number, string>): string[] {
  return bitsOf(word).map((bit) => names.get(bit) ?? `0x${bit.toString(16)}`);
}

function algorithmsOf(mask: number, incompat: number): string[] {
  // Without compr_cfgs the word is lz4's sliding window, and lz4 is the only algorithm there can be.
  if ((incompat & 0x2) === 0) return (incompat & 0x1) === 0 ? [] : ["lz4"];
  return bitsOf(mask).map((bit) => COMPRESSION_ALGORITHMS[Math.log2(bit)] ?? `0x${bit.toString(16)}`);
}

function bitsOf(word: number): number[] {
  const bits: number[] = [];
  for (let shift = 0; shift < 32; shift += 1) if ((word >>> shift) & 1) bits.push(2 ** shift);
  return bits;
}

function decodeName(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
