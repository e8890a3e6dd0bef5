import { DiskImageError } from "../errors.ts";
import {
  BPB,
  DIRENT_SIZE,
  EBPB16,
  EBPB32,
  EXTENDED_BOOT_SIGNATURE,
  FAT_SIGNATURE,
  FAT_SIGNATURE_OFFSET,
  MAX_CLUSTERS,
} from "../format/fat.ts";
import { assertLength, viewOf } from "../internal/bytes.ts";
import type { FatGeometry, FatType } from "./geometry.ts";

const BOOT_SECTOR_SIZE = 512;

/** What the first sector of a FAT file system says. */
export interface FatBootSector {
  readonly geometry: FatGeometry;
  /** number of FATs, mostly two; the first is read */
  readonly fatCount: number;
  /** first cluster of the root directory of FAT32; 0 otherwise */
  readonly rootCluster: number;
  /** serial number; 0 when there is none */
  readonly volumeId: number;
  /** label as the boot sector has it, blanks at the end removed */
  readonly label: string;
}

/**
 * Decodes the boot sector of a FAT file system.
 *
 * @param bytes - The first 512 bytes or more; not retained.
 * @returns The geometry and names it gives.
 * @throws {DiskImageError} `DISK_TRUNCATED`, `DISK_BAD_MAGIC` without the signature 55 AA, `DISK_CORRUPT` for sizes no
 *   FAT has.
 * @see Microsoft FAT Specification, section 3
 * @example
 * const { geometry } = decodeFatBootSector(await partition.read(0, 512));
 */
export function decodeFatBootSector(bytes: Uint8Array): FatBootSector {
  assertLength(bytes, BOOT_SECTOR_SIZE, "FAT boot sector", 0);
  const view = viewOf(bytes);
  if (view.getUint16(FAT_SIGNATURE_OFFSET, true) !== FAT_SIGNATURE) {
    throw new DiskImageError("DISK_BAD_MAGIC", "expected the signature 55 AA, got another", {
      offset: FAT_SIGNATURE_OFFSET,
    });
  }
  const sectorSize = view.getUint16(BPB.bytesPerSector, true);
  assertOneOf(sectorSize, [512, 1024, 2048, 4096], "a sector size", BPB.bytesPerSector);
  const perCluster = view.getUint8(BPB.sectorsPerCluster);
  assertOneOf(perCluster, [1, 2, 4, 8, 16, 32, 64, 128], "a number of sectors per cluster", BPB.sectorsPerCluster);
  const fatCount = view.getUint8(BPB.fatCount);
  const reservedSectors = view.getUint16(BPB.reservedSectors, true);
  const totalSectors = view.getUint16(BPB.totalSectors16, true) || view.getUint32(BPB.totalSectors32, true);
  const fatSectors16 = view.getUint16(BPB.fatSectors16, true);
  const fatSectors = fatSectors16 || view.getUint32(EBPB32.fatSectors, true);
  const rootEntries = view.getUint16(BPB.rootEntries, true);
  if (reservedSectors === 0 || fatCount === 0 || fatSectors === 0) {
    throw new DiskImageError("DISK_CORRUPT", "expected reserved sectors and a FAT, got none", {
      offset: BPB.reservedSectors,
    });
  }
  const rootSector = reservedSectors + fatCount * fatSectors;
  const dataSector = rootSector + Math.ceil((rootEntries * DIRENT_SIZE) / sectorSize);
  const clusters = Math.floor((totalSectors - dataSector) / perCluster);
  if (clusters < 1) {
    const message = `expected more sectors than the ${dataSector} before the data, got ${totalSectors}`;
    throw new DiskImageError("DISK_CORRUPT", message, { offset: BPB.totalSectors16 });
  }
  const type = typeOf(clusters);
  assertFatHolds(fatSectors * sectorSize, clusters, type);
  const is32 = type === 32;
  if (is32 !== (fatSectors16 === 0)) {
    throw new DiskImageError(
      "DISK_CORRUPT",
      `expected the fields of FAT${type} for ${clusters} clusters, got another type's`,
      {
        offset: BPB.fatSectors16,
      },
    );
  }
  const extended = is32 ? EBPB32 : EBPB16;
  const hasNames = view.getUint8(extended.bootSignature) === EXTENDED_BOOT_SIGNATURE;
  return {
    geometry: {
      type,
      sectorSize,
      clusterSize: perCluster * sectorSize,
      reservedSectors,
      fatSectors,
      rootEntries,
      totalSectors,
      clusters,
      rootOffset: rootSector * sectorSize,
      dataOffset: dataSector * sectorSize,
    },
    fatCount,
    rootCluster: is32 ? view.getUint32(EBPB32.rootCluster, true) : 0,
    volumeId: hasNames ? view.getUint32(extended.volumeId, true) : 0,
    label: hasNames
      ? new TextDecoder("latin1").decode(bytes.subarray(extended.label, extended.label + 11)).trimEnd()
      : "",
  };
}

function typeOf(clusters: number): FatType {
  if (clusters <= MAX_CLUSTERS[12]) return 12;
  return clusters <= MAX_CLUSTERS[16] ? 16 : 32;
}

function assertFatHolds(fatBytes: number, clusters: number, type: FatType): void {
  if (clusters <= MAX_CLUSTERS[type] && ((clusters + 2) * type) / 8 <= fatBytes) return;
  throw new DiskImageError("DISK_CORRUPT", `expected a FAT for ${clusters} clusters, got one of ${fatBytes} bytes`, {
    offset: BPB.fatSectors16,
  });
}

function assertOneOf(value: number, allowed: readonly number[], what: string, offset: number): void {
  if (allowed.includes(value)) return;
  throw new DiskImageError("DISK_CORRUPT", `expected ${what} among ${allowed.join(", ")}, got ${value}`, { offset });
}
