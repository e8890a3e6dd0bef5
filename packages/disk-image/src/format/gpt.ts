/**
 * GUID partition table, little endian.
 *
 * @see UEFI Specification 2.10, section 5.2.3 "Protective MBR" and 5.3 "GUID Partition Table (GPT) Disk Layout"
 */
export const MBR_SIZE = 512;
export const MBR = { partitions: 446, signature: 510 } as const;
export const MBR_SIGNATURE = 0xaa55;
export const MBR_PARTITION_SIZE = 16;
export const MBR_PARTITION = { startChs: 1, type: 4, endChs: 5, firstLba: 8, sectors: 12 } as const;
export const MBR_TYPE_PROTECTIVE = 0xee;
/** CHS of LBA 1, and the value that says the end is beyond what CHS can express */
export const PROTECTIVE_START_CHS = [0x00, 0x02, 0x00] as const;
export const PROTECTIVE_END_CHS = [0xff, 0xff, 0xff] as const;

export const GPT_SIGNATURE = new Uint8Array([0x45, 0x46, 0x49, 0x20, 0x50, 0x41, 0x52, 0x54]);
export const GPT_REVISION = 0x0001_0000;
export const GPT_HEADER_SIZE = 92;
export const GPT_HEADER = {
  signature: 0,
  revision: 8,
  headerSize: 12,
  headerCrc: 16,
  reserved: 20,
  myLba: 24,
  alternateLba: 32,
  firstUsableLba: 40,
  lastUsableLba: 48,
  diskGuid: 56,
  entriesLba: 72,
  entryCount: 80,
  entrySize: 84,
  entriesCrc: 88,
} as const;

export const GPT_ENTRY_SIZE = 128;
/** least room the array of entries has to have, in `bytes` */
export const GPT_MIN_ENTRIES_SIZE = 16_384;
export const GPT_ENTRY = { type: 0, uuid: 16, firstLba: 32, lastLba: 40, attributes: 48, label: 56 } as const;
export const GPT_LABEL_UNITS = 36;

/**
 * Attribute bits by name: 0..2 of every type, the others of discoverable partitions.
 *
 * @see UEFI Specification 2.10, table 5.8; UAPI.2 Discoverable Partitions Specification, "Partition Flags"
 */
export const GPT_ATTRIBUTES = {
  required: 0n,
  "no-block-io": 1n,
  "legacy-boot": 2n,
  "grow-file-system": 59n,
  "read-only": 60n,
  "no-auto": 63n,
} as const;
