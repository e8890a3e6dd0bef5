import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import { DiskImageError } from "../errors.ts";
import { fillPartition, ownSize, prepareFilling } from "../filling.ts";
import { type FoundGpt, readGpt } from "../gpt/read.ts";
import {
  attributeBits,
  type GptPartition,
  type GptTable,
  type PartitionAttribute,
  type SectorSize,
} from "../gpt/table.ts";
import { type PartitionTypeName, partitionTypeGuid } from "../guid.ts";
import { DiskImage, type DiskPartition } from "../open.ts";
import { type DiskProgress, type PartitionContent, parseOptions, replaceOptions } from "../options.ts";
import { clear, type InPlaceFile, openRawDisk } from "./file.ts";
import { inTurn } from "./in-turn.ts";
import { assertWritable, writeTable } from "./write-table.ts";

/** What {@link replacePartition} changes; what is left out stays as it is. */
export interface ReplaceOptions {
  /** what fills the partition; all of it behind the content becomes zeros */
  readonly content?: PartitionContent | undefined;
  /** name, at most 36 UTF-16 code units */
  readonly label?: string | undefined;
  /** name of a discoverable type, or a GUID */
  readonly type?: PartitionTypeName | (string & {}) | undefined;
  readonly uuid?: string | undefined;
  /** all attributes; those that are not named are cleared */
  readonly attributes?: readonly PartitionAttribute[] | undefined;
  /** sector size in `bytes` to look with; 512 and 4096 are tried unless given */
  readonly sectorSize?: SectorSize | undefined;
  readonly signal?: AbortSignal | undefined;
  /** called after each piece */
  readonly onProgress?: ((event: DiskProgress) => void) | undefined;
}

/**
 * Replaces a partition of a raw disk image or a block device in place: its content, its entry in the table, or both.
 * Everything is checked before the first byte is written. The content comes first and is on the disk before the table
 * is touched, of which one copy is whole at every moment: an interruption leaves the old entry over a content that is
 * partly new, so replace a partition that nothing uses, as the free one of two slots is.
 *
 * Calls of one process for the same file wait for each other. What another process changes in the table meanwhile stays,
 * unless it is the same entry.
 *
 * @param path - The disk.
 * @param which - As for {@link DiskImage.partition}.
 * @param options - See {@link ReplaceOptions}.
 * @returns The partition as it is now.
 * @throws {DiskImageError} `DISK_BAD_OPTIONS`; `DISK_CORRUPT` when the copies of the table are not both valid, equal and
 *   in their places; `DISK_TOO_SMALL` with the arithmetic; `DISK_NOT_FOUND`; `DISK_UNSUPPORTED` for qcow2;
 *   `DISK_CHANGED` when another process changed the entry; and as `readGpt`. An abort throws the signal's reason.
 * @example
 * await replacePartition("os.raw", "_empty", { content: { file: "usr.erofs" }, label: "os_2", uuid });
 */
export async function replacePartition(
  path: string,
  which: number | string,
  options: ReplaceOptions,
): Promise<DiskPartition> {
  const checked = parseOptions(replaceOptions, options);
  checked.signal?.throwIfAborted();
  return inTurn(path, () => replaceIn(path, which, checked));
}

async function replaceIn(path: string, which: number | string, checked: Changes): Promise<DiskPartition> {
  const { content, signal, onProgress, sectorSize } = checked;
  await using disk = await openRawDisk(path);
  const found = await readGpt(disk.source, { sectorSize });
  assertSound(found);
  const { number } = new DiskImage(disk.source, found, "raw").partition(which);
  const table = changedTable(found.table, number, checked);
  assertWritable(table);
  const after = new DiskImage(disk.source, { ...found, table }, "raw").partition(number);
  const filling = await prepareFilling(after, content, table.sectorSize);

  if (content !== undefined) {
    const { label, offsetBytes, sizeBytes } = after;
    const own = (await ownSize(content)) ?? 0;
    await clear(disk, offsetBytes + own, sizeBytes - own, signal);
    let doneBytes = 0;
    await fillPartition(disk, filling, signal, (count) => {
      doneBytes += count;
      onProgress?.({ partition: label, doneBytes, totalBytes: filling.contentBytes });
    });
    await disk.sync();
  }
  if (Object.keys(entryChanges(checked)).length > 0) await writeEntry(disk, found.table, number, checked);
  return after;
}

/** Changes one entry of the table as it is now; `known` is the table as it was read before the content was written. */
async function writeEntry(disk: InPlaceFile, known: GptTable, number: number, changes: Changes): Promise<void> {
  const { sectorSize } = known;
  const found = await readGpt(disk.source, { sectorSize });
  assertSound(found);
  assertSameEntry(known, found.table, number);
  const table = changedTable(found.table, number, changes);
  assertWritable(table);
  await writeTable(disk, table);
  // There is no lock that others would heed, so look whether somebody wrote at the same moment.
  const written = await readGpt(disk.source, { sectorSize });
  assertSound(written);
  assertSameEntry(table, written.table, number);
}

function assertSameEntry(expected: GptTable, found: GptTable, number: number): void {
  const [wanted, got] = [expected, found].map(({ partitions }) => partitions.find((each) => each.number === number));
  if (isDeepStrictEqual(wanted, got)) return;
  throw new DiskImageError("DISK_CHANGED", `expected partition ${number} to stay as it was found, got another one`, {
    hint: "another process changes this disk: its content and this one may be mixed; let one end, then replace again",
  });
}

type Changes = z.output<typeof replaceOptions>;

function assertSound({ primary, backup, isBackupAtEnd, hasProtectiveMbr }: FoundGpt): void {
  const damage = [primary, backup].find((copy) => copy !== "valid");
  if (damage === undefined && isBackupAtEnd && hasProtectiveMbr) return;
  const hint = "disk-image repair makes the copies of the table equal again";
  if (damage instanceof DiskImageError) {
    throw new DiskImageError("DISK_CORRUPT", `expected a sound partition table: ${damage.message}`, {
      hint,
      cause: damage,
    });
  }
  const got = isBackupAtEnd ? "no protective MBR" : "a backup that is not at the disk's end";
  throw new DiskImageError("DISK_CORRUPT", `expected a sound partition table, got ${got}`, { hint });
}

function changedTable(table: GptTable, number: number, changes: Changes): GptTable {
  const changed = entryChanges(changes);
  const others = table.partitions.filter((partition) => partition.number !== number);
  const taken = [table.diskGuid, ...others.map(({ uuid }) => uuid)];
  if (changed.uuid !== undefined && taken.includes(changed.uuid)) {
    const message = `expected a GUID that nothing on the disk has yet, got ${changed.uuid}`;
    throw new DiskImageError("DISK_BAD_OPTIONS", message);
  }
  const partitions = table.partitions.map((each) => (each.number === number ? { ...each, ...changed } : each));
  return { ...table, partitions };
}

/** What a partition's entry gets anew. */
function entryChanges({ label, type, uuid, attributes }: Changes): Partial<GptPartition> {
  return {
    ...(label !== undefined && { label }),
    ...(type !== undefined && { type: partitionTypeGuid(type) }),
    ...(uuid !== undefined && { uuid: uuid.toLowerCase() }),
    ...(attributes !== undefined && { attributes: attributeBits(attributes) }),
  };
}
