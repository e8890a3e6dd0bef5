/**
 * FAT12, FAT16 and FAT32, little endian.
 *
 * @see Microsoft FAT Specification (fatgen103 / 2005 edition), sections 3 to 7
 */
export const FAT_SIGNATURE = 0xaa55;
export const FAT_SIGNATURE_OFFSET = 510;

/** BIOS parameter block, common part */
export const BPB = {
  jump: 0,
  oemName: 3,
  bytesPerSector: 11,
  sectorsPerCluster: 13,
  reservedSectors: 14,
  fatCount: 16,
  rootEntries: 17,
  totalSectors16: 19,
  media: 21,
  fatSectors16: 22,
  sectorsPerTrack: 24,
  heads: 26,
  hiddenSectors: 28,
  totalSectors32: 32,
} as const;

/** the fields behind the common part of FAT12 and FAT16 */
export const EBPB16 = { drive: 36, bootSignature: 38, volumeId: 39, label: 43, type: 54, code: 62 } as const;

/** the fields behind the common part of FAT32 */
export const EBPB32 = {
  fatSectors: 36,
  flags: 40,
  version: 42,
  rootCluster: 44,
  infoSector: 48,
  backupSector: 50,
  drive: 64,
  bootSignature: 66,
  volumeId: 67,
  label: 71,
  type: 82,
  code: 90,
} as const;

export const EXTENDED_BOOT_SIGNATURE = 0x29;
export const MEDIA_FIXED = 0xf8;
export const DRIVE_FIXED = 0x80;

export const INFO_SECTOR = 1;
export const BACKUP_SECTOR = 6;
export const INFO = { lead: 0, struct: 484, freeClusters: 488, nextFree: 492, trail: 508 } as const;
export const INFO_LEAD_SIGNATURE = 0x41615252;
export const INFO_STRUCT_SIGNATURE = 0x61417272;
export const INFO_TRAIL_SIGNATURE = 0xaa550000;

/** the number of clusters alone decides the type: below the first it is FAT12, below the second FAT16 */
export const MIN_CLUSTERS = { 12: 1, 16: 4085, 32: 65525 } as const;
export const MAX_CLUSTERS = { 12: 4084, 16: 65524, 32: 0x0fff_fff5 } as const;
/** entries of a FAT that mean the end of a chain start here, by type */
export const END_OF_CHAIN = { 12: 0xff8, 16: 0xfff8, 32: 0x0fff_fff8 } as const;
export const LAST_CLUSTER = { 12: 0xfff, 16: 0xffff, 32: 0x0fff_ffff } as const;
export const BAD_CLUSTER = { 12: 0xff7, 16: 0xfff7, 32: 0x0fff_fff7 } as const;
export const FAT32_MASK = 0x0fff_ffff;
export const FIRST_CLUSTER = 2;

export const DIRENT_SIZE = 32;
export const DIRENT = {
  name: 0,
  attributes: 11,
  caseFlags: 12,
  createdTime: 14,
  createdDate: 16,
  accessedDate: 18,
  clusterHigh: 20,
  writtenTime: 22,
  writtenDate: 24,
  clusterLow: 26,
  size: 28,
} as const;
export const ATTRIBUTE_VOLUME_LABEL = 0x08;
export const ATTRIBUTE_DIRECTORY = 0x10;
export const ATTRIBUTE_ARCHIVE = 0x20;
export const ATTRIBUTE_LONG_NAME = 0x0f;
export const ATTRIBUTE_LONG_NAME_MASK = 0x3f;
export const NAME_END = 0x00;
export const NAME_FREE = 0xe5;
/** stands for a first byte of E5, which would mean a free entry */
export const NAME_KANJI_E5 = 0x05;
export const CASE_LOWER_BASE = 0x08;
export const CASE_LOWER_EXTENSION = 0x10;

export const LONG_NAME = { order: 0, attributes: 11, type: 12, checksum: 13 } as const;
/** positions of the 13 UTF-16 units in a long-name entry */
export const LONG_NAME_UNITS = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30] as const;
export const LONG_NAME_LAST = 0x40;
export const MAX_LONG_NAME_UNITS = 255;
/** a directory may not be longer than this many entries */
export const MAX_DIRECTORY_ENTRIES = 65_536;
export const MAX_FILE_SIZE = 0xffff_ffff;
