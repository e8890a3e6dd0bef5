import { DiskImageError } from "../errors.ts";
import {
  QCOW2_CLUSTER_BITS,
  QCOW2_ENTRY_SIZE,
  QCOW2_HEADER,
  QCOW2_HEADER_SIZE,
  QCOW2_HEADER_SIZE_V2,
  QCOW2_HEADER_SIZE_V3,
  QCOW2_INCOMPATIBLE,
  QCOW2_MAGIC,
  QCOW2_REFCOUNT_ORDER,
} from "../format/qcow2.ts";
import { assertLength, viewOf } from "../internal/bytes.ts";

/** Largest L1 table, in `bytes`; with clusters of 64 KiB it maps 2 PiB. QEMU opens no larger one either. */
export const DEFAULT_MAX_QCOW2_L1_BYTES: number = 32 * 1024 * 1024;

/** What a reader needs of a header. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  /** size of the disk inside in `bytes` */
  readonly sizeBytes: number;
  /** entries of the L1 table that the disk needs; a table may be longer */
  readonly l1Entries: number;
  readonly l1TableOffset: number;
}

/** Whether a file begins as qcow2 images do. */
export function isQcow2(start: Uint8Array): boolean {
  return start.byteLength >= 4 && viewOf(start).getUint32(QCOW2_HEADER.magic) === QCOW2_MAGIC;
}

/**
 * Decodes the start of an image.
 *
 * @param bytes - At least the header; the rest is ignored.
 * @throws {DiskImageError} `DISK_BAD_MAGIC`, `DISK_TRUNCATED`, `DISK_UNSUPPORTED` for backing files, encryption and
 *   features that this package doesn't know, `DISK_LIMIT`, `DISK_CORRUPT`.
 */
export function decodeQcow2Header(bytes: Uint8Array): Qcow2Header {
  if (!isQcow2(bytes)) throw new DiskImageError("DISK_BAD_MAGIC", "expected a qcow2 image, got another", { offset: 0 });
  assertLength(bytes, QCOW2_HEADER_SIZE_V2, "qcow2 header", 0);
  const view = viewOf(bytes);
  const version = view.getUint32(QCOW2_HEADER.version);
  if (version !== 2 && version !== 3) {
    throw unsupported(`expected qcow2 of version 2 or 3, got ${version}`, QCOW2_HEADER.version);
  }
  if (version === 3) assertFeatures(bytes);
  if (view.getBigUint64(QCOW2_HEADER.backingFileOffset) !== 0n) {
    const message = "expected an image that stands for itself, got one with a backing file";
    throw unsupported(message, QCOW2_HEADER.backingFileOffset, "qemu-img convert makes one file of both");
  }
  if (view.getUint32(QCOW2_HEADER.cryptMethod) !== 0) {
    throw unsupported("expected an image without encryption, got an encrypted one", QCOW2_HEADER.cryptMethod);
  }
  const clusterBits = view.getUint32(QCOW2_HEADER.clusterBits);
  const { min, max } = QCOW2_CLUSTER_BITS;
  if (clusterBits < min || clusterBits > max) {
    throw new DiskImageError("DISK_CORRUPT", `expected clusters of 2^${min} to 2^${max} bytes, got 2^${clusterBits}`, {
      offset: QCOW2_HEADER.clusterBits,
    });
  }
  const clusterSize = 2 ** clusterBits;
  const size = view.getBigUint64(QCOW2_HEADER.size);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) {
    const message = `expected a disk of at most ${Number.MAX_SAFE_INTEGER} bytes, got ${size}`;
    throw new DiskImageError("DISK_LIMIT", message, { offset: QCOW2_HEADER.size });
  }
  const sizeBytes = Number(size);
  const l1TableOffset = clusterOffset(view.getBigUint64(QCOW2_HEADER.l1TableOffset), clusterSize, "L1 table");
  const l1Entries = entriesNeeded(sizeBytes, clusterSize);
  const stored = view.getUint32(QCOW2_HEADER.l1Size);
  if (l1Entries > stored) {
    const message = `expected an L1 table of ${l1Entries} entries for ${sizeBytes} bytes, got ${stored}`;
    throw new DiskImageError("DISK_CORRUPT", message, { offset: QCOW2_HEADER.l1Size });
  }
  if (l1Entries * QCOW2_ENTRY_SIZE > DEFAULT_MAX_QCOW2_L1_BYTES) {
    const message = `expected an L1 table of at most ${DEFAULT_MAX_QCOW2_L1_BYTES} bytes, got ${l1Entries} entries`;
    throw new DiskImageError("DISK_LIMIT", message, { offset: QCOW2_HEADER.l1Size });
  }
  return { version, clusterSize, sizeBytes, l1Entries, l1TableOffset };
}

/** Entries of an L1 table, each of which stands for one L2 table of one cluster. */
export function entriesNeeded(sizeBytes: number, clusterSize: number): number {
  return Math.ceil(sizeBytes / clusterSize / (clusterSize / QCOW2_ENTRY_SIZE));
}

/** Checks an offset of something that begins a cluster. */
export function clusterOffset(offset: bigint, clusterSize: number, what: string): number {
  if (offset <= BigInt(Number.MAX_SAFE_INTEGER) && offset % BigInt(clusterSize) === 0n) return Number(offset);
  throw new DiskImageError("DISK_CORRUPT", `expected the ${what} at the start of a cluster, got byte ${offset}`);
}

/** Where the tables of an image that is written came to lie. */
export interface Qcow2Layout {
  readonly sizeBytes: number;
  readonly clusterSize: number;
  readonly l1Entries: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
}

/** Encodes a header of version 3 without optional features and extensions. */
export function encodeQcow2Header(layout: Qcow2Layout): Uint8Array {
  // The list of extensions that follows ends with 8 zeros.
  const bytes = new Uint8Array(QCOW2_HEADER_SIZE + 8);
  const view = viewOf(bytes);
  view.setUint32(QCOW2_HEADER.magic, QCOW2_MAGIC);
  view.setUint32(QCOW2_HEADER.version, 3);
  view.setUint32(QCOW2_HEADER.clusterBits, Math.log2(layout.clusterSize));
  view.setBigUint64(QCOW2_HEADER.size, BigInt(layout.sizeBytes));
  view.setUint32(QCOW2_HEADER.l1Size, layout.l1Entries);
  view.setBigUint64(QCOW2_HEADER.l1TableOffset, BigInt(layout.l1TableOffset));
  view.setBigUint64(QCOW2_HEADER.refcountTableOffset, BigInt(layout.refcountTableOffset));
  view.setUint32(QCOW2_HEADER.refcountTableClusters, layout.refcountTableClusters);
  view.setUint32(QCOW2_HEADER.refcountOrder, QCOW2_REFCOUNT_ORDER);
  view.setUint32(QCOW2_HEADER.headerLength, QCOW2_HEADER_SIZE);
  return bytes;
}

function assertFeatures(bytes: Uint8Array): void {
  assertLength(bytes, QCOW2_HEADER_SIZE_V3, "qcow2 header", 0);
  const features = viewOf(bytes).getBigUint64(QCOW2_HEADER.incompatibleFeatures);
  const names = new Map<bigint, string>(Object.entries(QCOW2_INCOMPATIBLE).map(([name, bit]) => [bit, name]));
  for (let bit = 0n; bit < 64n; bit += 1n) {
    // A dirty image's refcounts may be wrong; the mapping, which is all that reading needs, is right.
    if (((features >> bit) & 1n) === 0n || bit === QCOW2_INCOMPATIBLE.dirty) continue;
    if (bit === QCOW2_INCOMPATIBLE.corrupt) {
      throw new DiskImageError("DISK_CORRUPT", "expected a sound image, got one that is marked as corrupt", {
        offset: QCOW2_HEADER.incompatibleFeatures,
        hint: "qemu-img check -r all may repair it",
      });
    }
    const message = `expected an image without ${names.get(bit) ?? `feature ${bit}`}, got one with it`;
    throw unsupported(message, QCOW2_HEADER.incompatibleFeatures, "qemu-img convert makes one without it");
  }
}

function unsupported(message: string, offset: number, hint?: string): DiskImageError {
  return new DiskImageError("DISK_UNSUPPORTED", message, { offset, ...(hint !== undefined && { hint }) });
}
