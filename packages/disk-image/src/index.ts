// Where bytes come from and go to
export {
  type BlockSource,
  type ByteSink,
  DEFAULT_HTTP_TIMEOUT_MS,
  DEFAULT_MAX_HTTP_CACHE_BYTES,
  type DisposableBlockSource,
  fileSource,
  type HttpSourceOptions,
  httpSource,
  memorySource,
  windowSource,
} from "./block-source.ts";
export { DiskImageError, type DiskImageErrorCode, type DiskImageErrorDetails } from "./errors.ts";
export { extractTo } from "./extract.ts";
export { decodeFatBootSector, type FatBootSector } from "./fat/boot-sector.ts";
export type { FatEntry } from "./fat/directory.ts";
export type { FatGeometry, FatType } from "./fat/geometry.ts";
export { type FatPlan, type PlannedDirectory, type PlannedFile, planFat } from "./fat/plan.ts";
export {
  DEFAULT_MAX_FAT_DEPTH,
  DEFAULT_MAX_FAT_DIRECTORY_BYTES,
  DEFAULT_MAX_FAT_ENTRIES,
  DEFAULT_MAX_FAT_FILE_BYTES,
  DEFAULT_MAX_FAT_PATH_CHARS,
  FatVolume,
  type FatWalkEntry,
  type FatWalkOptions,
  openFat,
} from "./fat/read.ts";
export { writeFat } from "./fat/write.ts";
export { PARTITION_TYPES } from "./format/partition-types.ts";
export { DEFAULT_MAX_GPT_ENTRIES, DEFAULT_MAX_GPT_ENTRY_SIZE, type FoundGpt, readGpt } from "./gpt/read.ts";
// Partition tables
export {
  attributeBits,
  attributeNames,
  DEFAULT_ENTRY_COUNT,
  type EncodedGpt,
  encodeGpt,
  type GptPartition,
  type GptTable,
  type PartitionAttribute,
  type SectorSize,
} from "./gpt/table.ts";
export {
  decodeGuid,
  deterministicUuid,
  encodeGuid,
  isGuid,
  type PartitionTypeName,
  partitionTypeGuid,
  partitionTypeName,
  uuidsOfRootHash,
} from "./guid.ts";
export { type GptDamage, type GptRepair, type RepairOptions, repairDiskImage } from "./in-place/repair.ts";
export { type ReplaceOptions, replacePartition } from "./in-place/replace.ts";
export { DiskImage, type DiskPartition, openDiskImage } from "./open.ts";
// Whole disks
export {
  type Content,
  type DiskOptions,
  type DiskProgress,
  type FatOptions,
  type ImageFormat,
  PARTITION_ALIGNMENT,
  PARTITION_GRAIN,
  type PartitionContent,
  type PartitionOptions,
  type PartitionSink,
} from "./options.ts";
export { type DiskPlan, type PlannedPartition, planDisk } from "./plan.ts";
export { DEFAULT_MAX_QCOW2_L1_BYTES } from "./qcow2/header.ts";
export { qcow2Source } from "./qcow2/read.ts";
export { type Qcow2Sink, qcow2Sink } from "./qcow2/write.ts";
export { writeDiskImage } from "./write.ts";
