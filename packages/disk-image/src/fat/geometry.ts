import { DiskImageError } from "../errors.ts";
import { BACKUP_SECTOR, DIRENT_SIZE, FIRST_CLUSTER, MAX_CLUSTERS, MIN_CLUSTERS } from "../format/fat.ts";
import { alignUp } from "../internal/bytes.ts";

/** Bits of a FAT entry, which name the type. */
export type FatType = 12 | 16 | 32;

/** Where the parts of a FAT file system lie. */
export interface FatGeometry {
  readonly type: FatType;
  /** sector size in `bytes` */
  readonly sectorSize: number;
  /** cluster size in `bytes` */
  readonly clusterSize: number;
  /** sectors in front of the first FAT */
  readonly reservedSectors: number;
  /** sectors of one FAT; there are two */
  readonly fatSectors: number;
  /** entries of the root directory; 0 with FAT32, where it is a chain of clusters */
  readonly rootEntries: number;
  /** size in `sectors` */
  readonly totalSectors: number;
  /** clusters for data, numbered from 2 */
  readonly clusters: number;
  /** position of the root directory of FAT12 and FAT16 in `bytes` */
  readonly rootOffset: number;
  /** position of cluster 2 in `bytes` */
  readonly dataOffset: number;
}

/** What decides a geometry. */
export interface GeometryRequest {
  readonly sizeBytes: number;
  readonly sectorSize: number;
  readonly type?: FatType | undefined;
  readonly clusterSizeBytes?: number | undefined;
  /** entries the root directory will need */
  readonly rootEntries: number;
}

const FAT_COUNT = 2;
/** sectors in front of the first FAT of FAT32, as other systems have them */
const RESERVED_SECTORS_32 = 32;
const MIN_ROOT_ENTRIES = 512;
const MAX_CLUSTER_SIZE = 32 * 1024;
const MAX_SECTORS = 0xffff_ffff;
/** largest cluster size that is taken without being asked for, by size of the file system */
const PREFERRED_CLUSTER_SIZES = [
  { below: 8 * 1024 ** 3, clusterSize: 4096 },
  { below: 16 * 1024 ** 3, clusterSize: 8192 },
  { below: 32 * 1024 ** 3, clusterSize: 16_384 },
  { below: Number.POSITIVE_INFINITY, clusterSize: MAX_CLUSTER_SIZE },
] as const;

/**
 * Chooses type and cluster size. FAT32 is preferred, with the largest cluster up to 4 KiB that still gives it enough
 * clusters: firmware reads files in runs of clusters, and fewer of them are faster to follow.
 */
export function chooseGeometry(request: GeometryRequest): FatGeometry {
  if (request.sizeBytes / request.sectorSize > MAX_SECTORS) {
    throw new DiskImageError("DISK_LIMIT", `expected at most ${MAX_SECTORS} sectors, got ${request.sizeBytes} bytes`);
  }
  const types: readonly FatType[] = request.type === undefined ? [32, 16, 12] : [request.type];
  for (const type of types) {
    for (const clusterSize of clusterSizes(request, type)) {
      const geometry = layOut(request, type, clusterSize);
      // Another number of clusters would make it another type.
      if (geometry.clusters >= MIN_CLUSTERS[type] && geometry.clusters <= MAX_CLUSTERS[type]) return geometry;
    }
  }
  throw refusal(request, types.at(-1) ?? 12);
}

function clusterSizes({ sizeBytes, sectorSize, clusterSizeBytes }: GeometryRequest, type: FatType): number[] {
  if (clusterSizeBytes !== undefined) {
    const sectors = clusterSizeBytes / sectorSize;
    if (!Number.isInteger(Math.log2(sectors)) || sectors < 1 || sectors > 128) {
      const message = `expected a cluster size of 1..128 sectors, a power of two, got ${clusterSizeBytes} bytes`;
      throw new DiskImageError("DISK_BAD_OPTIONS", message);
    }
    return [clusterSizeBytes];
  }
  const sizes: number[] = [];
  for (let size = sectorSize; size <= MAX_CLUSTER_SIZE; size *= 2) sizes.push(size);
  // The small types have few clusters: the smallest cluster that keeps their number low enough wastes least.
  if (type !== 32) return sizes;
  const preferred = PREFERRED_CLUSTER_SIZES.find(({ below }) => sizeBytes < below)?.clusterSize ?? MAX_CLUSTER_SIZE;
  const larger = sizes.filter((size) => size > preferred);
  return [...sizes.filter((size) => size <= preferred).reverse(), ...larger];
}

/** Lays a type out with a cluster size, whether or not the number of clusters suits the type. */
function layOut(request: GeometryRequest, type: FatType, clusterSize: number): FatGeometry {
  const { sectorSize } = request;
  const totalSectors = Math.floor(request.sizeBytes / sectorSize);
  const perCluster = clusterSize / sectorSize;
  const rootEntries = type === 32 ? 0 : rootEntriesFor(request);
  const rootSectors = (rootEntries * DIRENT_SIZE) / sectorSize;
  const leastReserved = type === 32 ? Math.max(RESERVED_SECTORS_32, BACKUP_SECTOR + 2) : 1;
  // As if everything behind the reserved sectors were data: at most a few entries more than are needed.
  const most = Math.max(0, Math.floor((totalSectors - leastReserved - rootSectors) / perCluster));
  const fatSectors = Math.ceil(((most + FIRST_CLUSTER) * type) / 8 / sectorSize);
  // Data starts at a whole number of clusters, so that clusters do not straddle pages or flash blocks.
  const dataSector = alignUp(leastReserved + FAT_COUNT * fatSectors + rootSectors, perCluster);
  const clusters = Math.floor((totalSectors - dataSector) / perCluster);
  return {
    type,
    sectorSize,
    clusterSize,
    reservedSectors: dataSector - FAT_COUNT * fatSectors - rootSectors,
    fatSectors,
    rootEntries,
    totalSectors,
    clusters,
    rootOffset: (dataSector - rootSectors) * sectorSize,
    dataOffset: dataSector * sectorSize,
  };
}

function rootEntriesFor({ rootEntries, sectorSize }: GeometryRequest): number {
  return alignUp(Math.max(MIN_ROOT_ENTRIES, rootEntries), sectorSize / DIRENT_SIZE);
}

function refusal(request: GeometryRequest, type: FatType): DiskImageError {
  const { sizeBytes, sectorSize } = request;
  const clusterSize = request.clusterSizeBytes ?? sectorSize;
  const needed = leastSize(request, type, clusterSize);
  if (sizeBytes < needed) {
    const message = `expected at least ${needed} bytes for FAT${type} with clusters of ${clusterSize} bytes, got ${sizeBytes}`;
    return new DiskImageError("DISK_TOO_SMALL", message, { neededBytes: needed, availableBytes: sizeBytes });
  }
  const message = `expected a size that FAT${type} with clusters of ${request.clusterSizeBytes ?? "any number of"} bytes can have, got ${sizeBytes}`;
  return new DiskImageError("DISK_BAD_OPTIONS", message, {
    hint: `leave out the type or the cluster size, or choose a size with ${MIN_CLUSTERS[type]} to ${MAX_CLUSTERS[type]} clusters`,
  });
}

/** The smallest size with enough clusters, between what they alone take and that with generous tables. */
function leastSize(request: GeometryRequest, type: FatType, clusterSize: number): number {
  const { sectorSize } = request;
  let low = MIN_CLUSTERS[type] * clusterSize;
  let high = low * 2 + 1024 * 1024;
  while (high - low > sectorSize) {
    const middle = alignUp(low + Math.floor((high - low) / 2), sectorSize);
    if (middle >= high) break;
    if (layOut({ ...request, sizeBytes: middle }, type, clusterSize).clusters < MIN_CLUSTERS[type]) low = middle;
    else high = middle;
  }
  return alignUp(high, sectorSize);
}
