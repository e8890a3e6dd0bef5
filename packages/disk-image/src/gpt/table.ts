import { crc32 } from "node:zlib";
import { DiskImageError } from "../errors.ts";
import {
  GPT_ATTRIBUTES,
  GPT_ENTRY,
  GPT_ENTRY_SIZE,
  GPT_HEADER,
  GPT_HEADER_SIZE,
  GPT_LABEL_UNITS,
  GPT_MIN_ENTRIES_SIZE,
  GPT_REVISION,
  GPT_SIGNATURE,
  MBR,
  MBR_PARTITION,
  MBR_SIGNATURE,
  MBR_TYPE_PROTECTIVE,
  PROTECTIVE_END_CHS,
  PROTECTIVE_START_CHS,
} from "../format/gpt.ts";
import { encodeGuid } from "../guid.ts";
import { viewOf } from "../internal/bytes.ts";

/** Size of a logical sector in `bytes`. */
export type SectorSize = 512 | 4096;

/** Name of a partition attribute this package knows. */
export type PartitionAttribute = keyof typeof GPT_ATTRIBUTES;

/** One partition of a table. */
export interface GptPartition {
  /** position in the table, from 1 */
  readonly number: number;
  /** GUID of the type, lower case */
  readonly type: string;
  /** GUID of this partition, lower case */
  readonly uuid: string;
  /** first sector */
  readonly firstLba: bigint;
  /** last sector, inclusive */
  readonly lastLba: bigint;
  /** attribute bits; see {@link attributeNames} */
  readonly attributes: bigint;
  /** name, at most 36 UTF-16 code units */
  readonly label: string;
}

/** A partition table without its checksums and copies. */
export interface GptTable {
  readonly sectorSize: SectorSize;
  /** GUID of the disk, lower case */
  readonly diskGuid: string;
  /** size of the disk in `sectors` */
  readonly sectors: bigint;
  /** first sector partitions may use */
  readonly firstUsableLba: bigint;
  /** last sector partitions may use, inclusive */
  readonly lastUsableLba: bigint;
  /** room for entries */
  readonly entryCount: number;
  /** partitions in the order of their numbers */
  readonly partitions: readonly GptPartition[];
}

/** The bytes of a table: what belongs at the start and at the end of the disk. */
export interface EncodedGpt {
  /** protective MBR, primary header and entries, for byte 0 */
  readonly primary: Uint8Array;
  /** entries and backup header, for the end of the disk */
  readonly backup: Uint8Array;
}

/** Sectors that the entries of a table take. */
export function entrySectors(entryCount: number, sectorSize: SectorSize): number {
  return Math.ceil((entryCount * GPT_ENTRY_SIZE) / sectorSize);
}

/** Room for entries that every table has, 128 of them. */
export const DEFAULT_ENTRY_COUNT: number = GPT_MIN_ENTRIES_SIZE / GPT_ENTRY_SIZE;

/**
 * Encodes a GUID partition table with its protective MBR and its backup.
 *
 * @param table - Not retained; overlaps and ranges are the caller's business, as is done by `planDisk`.
 * @returns Both ends of the disk.
 * @throws {DiskImageError} `DISK_BAD_OPTIONS` for a bad GUID, a label over 36 code units or a number outside the table.
 * @see UEFI Specification 2.10, section 5.3
 * @example
 * const { primary, backup } = encodeGpt(table);
 */
export function encodeGpt(table: GptTable): EncodedGpt {
  const { sectorSize, sectors, entryCount } = table;
  const entries = encodeEntries(table);
  const entriesLength = entrySectors(entryCount, sectorSize);
  const last = sectors - 1n;

  const primary = new Uint8Array((2 + entriesLength) * sectorSize);
  encodeProtectiveMbr(primary, sectors);
  primary.set(encodeHeader(table, entries, { my: 1n, alternate: last, entries: 2n }), sectorSize);
  primary.set(entries, 2 * sectorSize);

  const backup = new Uint8Array((entriesLength + 1) * sectorSize);
  backup.set(entries);
  const place = { my: last, alternate: 1n, entries: last - BigInt(entriesLength) };
  backup.set(encodeHeader(table, entries, place), entriesLength * sectorSize);
  return { primary, backup };
}

/**
 * Names attribute bits.
 *
 * @param attributes - Bits as stored.
 * @returns Names in bit order; a bit without a name is `bit-N`.
 * @example
 * attributeNames(1n << 60n); // ["read-only"]
 */
export function attributeNames(attributes: bigint): string[] {
  const names = new Map<bigint, string>(Object.entries(GPT_ATTRIBUTES).map(([name, bit]) => [bit, name]));
  const found: string[] = [];
  for (let bit = 0n; bit < 64n; bit += 1n) {
    if (((attributes >> bit) & 1n) === 1n) found.push(names.get(bit) ?? `bit-${bit}`);
  }
  return found;
}

/**
 * Sets the bits of attributes.
 *
 * @param names - Names this package knows.
 * @returns Bits as stored.
 * @example
 * attributeBits(["read-only", "no-auto"]);
 */
export function attributeBits(names: readonly PartitionAttribute[]): bigint {
  return names.reduce((bits, name) => bits | (1n << GPT_ATTRIBUTES[name]), 0n);
}

function encodeProtectiveMbr(target: Uint8Array, sectors: bigint): void {
  const view = viewOf(target);
  const at = MBR.partitions;
  target.set(PROTECTIVE_START_CHS, at + MBR_PARTITION.startChs);
  target[at + MBR_PARTITION.type] = MBR_TYPE_PROTECTIVE;
  target.set(PROTECTIVE_END_CHS, at + MBR_PARTITION.endChs);
  view.setUint32(at + MBR_PARTITION.firstLba, 1, true);
  const covered = sectors - 1n;
  view.setUint32(at + MBR_PARTITION.sectors, covered > 0xffff_ffffn ? 0xffff_ffff : Number(covered), true);
  view.setUint16(MBR.signature, MBR_SIGNATURE, true);
}

function encodeEntries(table: GptTable): Uint8Array {
  const bytes = new Uint8Array(table.entryCount * GPT_ENTRY_SIZE);
  for (const partition of table.partitions) {
    if (partition.number < 1 || partition.number > table.entryCount) {
      const message = `expected a partition number in 1..${table.entryCount}, got ${partition.number}`;
      throw new DiskImageError("DISK_BAD_OPTIONS", message);
    }
    const start = (partition.number - 1) * GPT_ENTRY_SIZE;
    encodeEntry(bytes.subarray(start, start + GPT_ENTRY_SIZE), partition);
  }
  return bytes;
}

function encodeEntry(entry: Uint8Array, partition: GptPartition): void {
  const view = viewOf(entry);
  entry.set(encodeGuid(partition.type), GPT_ENTRY.type);
  entry.set(encodeGuid(partition.uuid), GPT_ENTRY.uuid);
  view.setBigUint64(GPT_ENTRY.firstLba, partition.firstLba, true);
  view.setBigUint64(GPT_ENTRY.lastLba, partition.lastLba, true);
  view.setBigUint64(GPT_ENTRY.attributes, partition.attributes, true);
  const { label } = partition;
  if (label.length > GPT_LABEL_UNITS || label.includes("\0")) {
    const message = `expected a label of at most ${GPT_LABEL_UNITS} UTF-16 units, got ${JSON.stringify(label)}`;
    throw new DiskImageError("DISK_BAD_OPTIONS", message);
  }
  for (let unit = 0; unit < label.length; unit += 1) {
    view.setUint16(GPT_ENTRY.label + unit * 2, label.charCodeAt(unit), true);
  }
}

interface HeaderPlace {
  readonly my: bigint;
  readonly alternate: bigint;
  readonly entries: bigint;
}

function encodeHeader(table: GptTable, entries: Uint8Array, place: HeaderPlace): Uint8Array {
  const header = new Uint8Array(GPT_HEADER_SIZE);
  const view = viewOf(header);
  header.set(GPT_SIGNATURE, GPT_HEADER.signature);
  view.setUint32(GPT_HEADER.revision, GPT_REVISION, true);
  view.setUint32(GPT_HEADER.headerSize, GPT_HEADER_SIZE, true);
  view.setBigUint64(GPT_HEADER.myLba, place.my, true);
  view.setBigUint64(GPT_HEADER.alternateLba, place.alternate, true);
  view.setBigUint64(GPT_HEADER.firstUsableLba, table.firstUsableLba, true);
  view.setBigUint64(GPT_HEADER.lastUsableLba, table.lastUsableLba, true);
  header.set(encodeGuid(table.diskGuid), GPT_HEADER.diskGuid);
  view.setBigUint64(GPT_HEADER.entriesLba, place.entries, true);
  view.setUint32(GPT_HEADER.entryCount, table.entryCount, true);
  view.setUint32(GPT_HEADER.entrySize, GPT_ENTRY_SIZE, true);
  view.setUint32(GPT_HEADER.entriesCrc, crc32(entries), true);
  // The header's own checksum is computed with its field zero.
  view.setUint32(GPT_HEADER.headerCrc, crc32(header), true);
  return header;
}
