import { crc32 } from "node:zlib";
import type { BlockSource } from "../block-source.ts";
import { DiskImageError } from "../errors.ts";
import {
  GPT_ENTRY,
  GPT_ENTRY_SIZE,
  GPT_HEADER,
  GPT_HEADER_SIZE,
  GPT_LABEL_UNITS,
  GPT_REVISION,
  GPT_SIGNATURE,
  MBR,
  MBR_PARTITION,
  MBR_PARTITION_SIZE,
  MBR_SIGNATURE,
  MBR_SIZE,
  MBR_TYPE_PROTECTIVE,
} from "../format/gpt.ts";
import { decodeGuid } from "../guid.ts";
import { assertLength, copyOf, isZero, viewOf } from "../internal/bytes.ts";
import type { GptPartition, GptTable, SectorSize } from "./table.ts";

/** Most entries a table may have room for; the usual number is 128. */
export const DEFAULT_MAX_GPT_ENTRIES = 4096;
/** Largest entry size, in `bytes`; the usual one is 128. */
export const DEFAULT_MAX_GPT_ENTRY_SIZE = 4096;

/** A table as found on a disk, with the state of its two copies. */
export interface FoundGpt {
  readonly table: GptTable;
  /** `valid`, or why the copy at the start was not used */
  readonly primary: "valid" | DiskImageError;
  /** `valid`, or what is wrong with the copy at the end */
  readonly backup: "valid" | DiskImageError;
  /** the copy at the end is in the last sector; it is not when the disk has grown since it was written */
  readonly isBackupAtEnd: boolean;
  /** sector 0 tells programs that know no GPT to keep off */
  readonly hasProtectiveMbr: boolean;
}

/** Both copies of a table, one of which at least can be used. */
export interface GptCopies {
  readonly sectorSize: SectorSize;
  readonly primary: GptCopy | DiskImageError;
  readonly backup: GptCopy | DiskImageError;
}

/** One copy of a table. */
export interface GptCopy {
  readonly table: GptTable;
  /** sector of its header */
  readonly lba: bigint;
  /** sector of the other copy's header */
  readonly alternateLba: bigint;
}

interface Header {
  readonly table: Omit<GptTable, "partitions">;
  readonly alternateLba: bigint;
  readonly entriesLba: bigint;
  readonly entrySize: number;
  readonly entriesCrc: number;
}

/**
 * Reads the partition table of a disk. The copy at the end is used when the one at the start is damaged; both are
 * always checked.
 *
 * @param source - The whole disk.
 * @param options - `sectorSize` to look with; both sizes are tried unless given.
 * @returns The table and the state of its copies.
 * @throws {DiskImageError} The primary copy's error when both are unusable: `DISK_TRUNCATED`, `DISK_BAD_MAGIC`,
 *   `DISK_BAD_CHECKSUM`, `DISK_UNSUPPORTED`, `DISK_LIMIT` or `DISK_CORRUPT`.
 * @see UEFI Specification 2.10, section 5.3.2
 * @example
 * const { table } = await readGpt(await fileSource("disk.raw"));
 */
export async function readGpt(
  source: BlockSource,
  options: { readonly sectorSize?: SectorSize | undefined } = {},
): Promise<FoundGpt> {
  const { primary, backup } = await readGptCopies(source, options.sectorSize);
  const used = isCopy(primary) ? primary : backup;
  if (!isCopy(used)) throw new Error("bug: no copy can be used");
  return {
    table: used.table,
    primary: isCopy(primary) ? "valid" : primary,
    backup: isCopy(backup) ? (difference(primary, backup) ?? "valid") : backup,
    isBackupAtEnd: isCopy(backup) && backup.lba === backup.table.sectors - 1n,
    hasProtectiveMbr: isProtective(await source.read(0, Math.min(MBR_SIZE, source.sizeBytes))),
  };
}

/**
 * Reads both copies of a table, at the first sector size at which one of them can be used.
 *
 * @throws {DiskImageError} The primary copy's error when neither can.
 */
export async function readGptCopies(source: BlockSource, wanted: SectorSize | undefined): Promise<GptCopies> {
  let first: DiskImageError | undefined;
  for (const sectorSize of wanted === undefined ? ([512, 4096] as const) : [wanted]) {
    const sectors = BigInt(Math.floor(source.sizeBytes / sectorSize));
    const primary = await attempt(() => readCopy(source, sectorSize, sectors, 1n));
    // The primary header knows where the backup is; without it, it should be in the last sector.
    const lastLba = isCopy(primary) ? primary.alternateLba : sectors - 1n;
    const backup = await attempt(() => readCopy(source, sectorSize, sectors, lastLba));
    if (isCopy(primary) || isCopy(backup)) return { sectorSize, primary, backup };
    first ??= primary;
  }
  throw first ?? new Error("bug: no sector size was tried");
}

/** Tells a copy that can be used from the reason why it cannot. */
export function isCopy(copy: GptCopy | DiskImageError): copy is GptCopy {
  return !(copy instanceof DiskImageError);
}

/** Both copies may be valid by themselves and still tell different things. */
export function difference(primary: GptCopy | DiskImageError, backup: GptCopy): DiskImageError | undefined {
  if (!isCopy(primary)) return undefined;
  const text = ({ table }: GptCopy): string =>
    JSON.stringify(table, (_, value) => (typeof value === "bigint" ? `${value}` : value));
  if (text(primary) === text(backup)) return undefined;
  return new DiskImageError("DISK_CORRUPT", "expected a backup table equal to the primary one, got another", {
    offset: Number(backup.lba) * primary.table.sectorSize,
  });
}

async function attempt<T>(action: () => Promise<T>): Promise<T | DiskImageError> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof DiskImageError) return error;
    throw error;
  }
}

async function readCopy(source: BlockSource, sectorSize: SectorSize, sectors: bigint, lba: bigint): Promise<GptCopy> {
  const offset = sectorOffset(lba, sectorSize, sectors);
  const header = decodeHeader(await source.read(offset, sectorSize), { offset, sectorSize, sectors, lba });
  const { table, entrySize } = header;
  const entriesOffset = sectorOffset(header.entriesLba, sectorSize, sectors);
  const length = table.entryCount * entrySize;
  if (entriesOffset + length > source.sizeBytes) {
    throw new DiskImageError("DISK_TRUNCATED", `expected ${length} bytes of partition entries, got the disk's end`, {
      offset: entriesOffset,
    });
  }
  const entries = await source.read(entriesOffset, length);
  assertCrc(crc32(entries), header.entriesCrc, "partition entries", entriesOffset);
  const partitions = decodeEntries(entries, entrySize, entriesOffset);
  assertPlaces(table, partitions, entriesOffset, entrySize);
  return { table: { ...table, partitions }, lba, alternateLba: header.alternateLba };
}

interface HeaderContext {
  readonly offset: number;
  readonly sectorSize: SectorSize;
  readonly sectors: bigint;
  readonly lba: bigint;
}

function decodeHeader(sector: Uint8Array, { offset, sectorSize, sectors, lba }: HeaderContext): Header {
  assertLength(sector, GPT_HEADER_SIZE, "GPT header", offset);
  const view = viewOf(sector);
  if (GPT_SIGNATURE.some((byte, index) => sector[index] !== byte)) {
    throw new DiskImageError("DISK_BAD_MAGIC", "expected the signature 'EFI PART', got another", { offset });
  }
  const revision = view.getUint32(GPT_HEADER.revision, true);
  if (revision !== GPT_REVISION) {
    throw new DiskImageError("DISK_UNSUPPORTED", `expected revision 1.0, got 0x${revision.toString(16)}`, {
      offset: offset + GPT_HEADER.revision,
    });
  }
  const headerSize = view.getUint32(GPT_HEADER.headerSize, true);
  if (headerSize < GPT_HEADER_SIZE || headerSize > sectorSize) {
    throw new DiskImageError(
      "DISK_CORRUPT",
      `expected a header of ${GPT_HEADER_SIZE}..${sectorSize} bytes, got ${headerSize}`,
      {
        offset: offset + GPT_HEADER.headerSize,
      },
    );
  }
  const unsigned = copyOf(sector.subarray(0, headerSize));
  unsigned.fill(0, GPT_HEADER.headerCrc, GPT_HEADER.headerCrc + 4);
  assertCrc(crc32(unsigned), view.getUint32(GPT_HEADER.headerCrc, true), "GPT header", offset);
  const myLba = view.getBigUint64(GPT_HEADER.myLba, true);
  if (myLba !== lba) {
    throw new DiskImageError("DISK_CORRUPT", `expected a header for sector ${lba}, got one for sector ${myLba}`, {
      offset: offset + GPT_HEADER.myLba,
    });
  }
  return {
    alternateLba: view.getBigUint64(GPT_HEADER.alternateLba, true),
    entriesLba: view.getBigUint64(GPT_HEADER.entriesLba, true),
    entriesCrc: view.getUint32(GPT_HEADER.entriesCrc, true),
    ...decodeEntryShape(view, offset),
    table: {
      sectorSize,
      sectors,
      diskGuid: decodeGuid(sector.subarray(GPT_HEADER.diskGuid)),
      firstUsableLba: view.getBigUint64(GPT_HEADER.firstUsableLba, true),
      lastUsableLba: view.getBigUint64(GPT_HEADER.lastUsableLba, true),
      entryCount: view.getUint32(GPT_HEADER.entryCount, true),
    },
  };
}

function decodeEntryShape(view: DataView, offset: number): { entrySize: number } {
  const count = view.getUint32(GPT_HEADER.entryCount, true);
  if (count > DEFAULT_MAX_GPT_ENTRIES) {
    throw new DiskImageError("DISK_LIMIT", `expected at most ${DEFAULT_MAX_GPT_ENTRIES} entries, got ${count}`, {
      offset: offset + GPT_HEADER.entryCount,
    });
  }
  const entrySize = view.getUint32(GPT_HEADER.entrySize, true);
  const isPowerOfTwo = Number.isInteger(Math.log2(entrySize / GPT_ENTRY_SIZE));
  if (!isPowerOfTwo || entrySize < GPT_ENTRY_SIZE || entrySize > DEFAULT_MAX_GPT_ENTRY_SIZE) {
    throw new DiskImageError("DISK_CORRUPT", `expected an entry size of 128 times a power of two, got ${entrySize}`, {
      offset: offset + GPT_HEADER.entrySize,
    });
  }
  return { entrySize };
}

function decodeEntries(entries: Uint8Array, entrySize: number, offset: number): GptPartition[] {
  const partitions: GptPartition[] = [];
  for (let start = 0; start < entries.byteLength; start += entrySize) {
    const entry = entries.subarray(start, start + entrySize);
    if (isZero(entry.subarray(GPT_ENTRY.type, GPT_ENTRY.type + 16))) continue;
    const view = viewOf(entry);
    const firstLba = view.getBigUint64(GPT_ENTRY.firstLba, true);
    const lastLba = view.getBigUint64(GPT_ENTRY.lastLba, true);
    if (lastLba < firstLba) {
      throw new DiskImageError("DISK_CORRUPT", `expected a last sector from ${firstLba}, got ${lastLba}`, {
        offset: offset + start + GPT_ENTRY.lastLba,
      });
    }
    partitions.push({
      number: start / entrySize + 1,
      type: decodeGuid(entry.subarray(GPT_ENTRY.type)),
      uuid: decodeGuid(entry.subarray(GPT_ENTRY.uuid)),
      firstLba,
      lastLba,
      attributes: view.getBigUint64(GPT_ENTRY.attributes, true),
      label: decodeLabel(view),
    });
  }
  return partitions;
}

function decodeLabel(view: DataView): string {
  let label = "";
  for (let unit = 0; unit < GPT_LABEL_UNITS; unit += 1) {
    const code = view.getUint16(GPT_ENTRY.label + unit * 2, true);
    if (code === 0) break;
    label += String.fromCharCode(code);
  }
  return label;
}

/** Partitions lie inside the usable sectors and do not overlap. */
function assertPlaces(
  table: Omit<GptTable, "partitions">,
  partitions: readonly GptPartition[],
  offset: number,
  entrySize: number,
): void {
  const sorted = partitions.toSorted((a, b) => (a.firstLba < b.firstLba ? -1 : 1));
  let free = table.firstUsableLba;
  const end = table.lastUsableLba < table.sectors ? table.lastUsableLba : table.sectors - 1n;
  for (const { number, firstLba, lastLba } of sorted) {
    if (firstLba < free || lastLba > end) {
      const message = `expected partition ${number} inside the free sectors ${free}..${end}, got ${firstLba}..${lastLba}`;
      throw new DiskImageError("DISK_CORRUPT", message, { offset: offset + (number - 1) * entrySize });
    }
    free = lastLba + 1n;
  }
}

function sectorOffset(lba: bigint, sectorSize: number, sectors: bigint): number {
  if (lba < 1n || lba >= sectors) {
    throw new DiskImageError("DISK_TRUNCATED", `expected sector ${lba}, got a disk of ${sectors} sectors`);
  }
  return Number(lba) * sectorSize;
}

function assertCrc(got: number, stored: number, what: string, offset: number): void {
  if (got === stored) return;
  const text = (value: number): string => value.toString(16).padStart(8, "0");
  throw new DiskImageError(
    "DISK_BAD_CHECKSUM",
    `expected a checksum of ${text(stored)} for the ${what}, got ${text(got)}`,
    {
      offset,
    },
  );
}

function isProtective(sector: Uint8Array): boolean {
  if (sector.byteLength < MBR_SIZE) return false;
  if (viewOf(sector).getUint16(MBR.signature, true) !== MBR_SIGNATURE) return false;
  const types = [0, 1, 2, 3].map((index) => sector[MBR.partitions + index * MBR_PARTITION_SIZE + MBR_PARTITION.type]);
  return types.includes(MBR_TYPE_PROTECTIVE);
}
