import { z } from "zod";
import { DiskImageError } from "../errors.ts";
import { MBR_SIZE } from "../format/gpt.ts";
import { difference, type GptCopies, type GptCopy, isCopy, readGptCopies } from "../gpt/read.ts";
import type { GptTable, SectorSize } from "../gpt/table.ts";
import { parseOptions, sectorSizeOption } from "../options.ts";
import { type InPlaceFile, openRawDisk } from "./file.ts";
import { inTurn } from "./in-turn.ts";
import { assertWritable, lastFreeLba, mbrState, writeTable } from "./write-table.ts";

const repairOptions = z.strictObject({
  from: z.enum(["primary", "backup"]).optional(),
  sectorSize: sectorSizeOption.optional(),
  dryRun: z.boolean().default(false),
});

/** How {@link repairDiskImage} works. */
export interface RepairOptions {
  /** copy to believe; needed only when both are valid and tell different things */
  readonly from?: "primary" | "backup" | undefined;
  /** sector size in `bytes` to look with; 512 and 4096 are tried unless given */
  readonly sectorSize?: SectorSize | undefined;
  /** only find out what there is to repair */
  readonly dryRun?: boolean | undefined;
}

/** One thing that was wrong with a disk's partition table. */
export interface GptDamage {
  readonly part: "primary" | "backup" | "protective-mbr";
  /** what was wrong, for people */
  readonly reason: string;
}

/** What {@link repairDiskImage} did. */
export interface GptRepair {
  /** everything that was wrong; nothing was written when it is empty */
  readonly damages: readonly GptDamage[];
  /** the table as it is in both copies now */
  readonly table: GptTable;
}

/**
 * Repairs the partition table of a raw disk image or a block device in place: the backup from the primary copy or the
 * reverse, a backup that is not at the end because the disk has grown or was cut, and the protective MBR. Nothing but
 * the table is written. One copy is whole at every moment.
 *
 * @param path - The disk.
 * @param options - See {@link RepairOptions}.
 * @returns What was wrong.
 * @throws {DiskImageError} As `readGpt` when neither copy can be used. `DISK_CORRUPT` when both are valid but differ and
 *   `from` is not given, or when the MBR has partitions of its own, which a GPT must not overwrite; `DISK_TOO_SMALL` when
 *   partitions reach beyond the end of the disk; `DISK_UNSUPPORTED` for entries that leave no room for a usual table.
 * @see UEFI Specification 2.10, section 5.3.2
 * @example
 * const { damages } = await repairDiskImage("os.raw");
 */
export async function repairDiskImage(path: string, options: RepairOptions = {}): Promise<GptRepair> {
  const { from, sectorSize, dryRun } = parseOptions(repairOptions, options);
  return inTurn(path, () => repairIn(path, from, sectorSize, dryRun));
}

async function repairIn(
  path: string,
  from: RepairOptions["from"],
  sectorSize: SectorSize | undefined,
  dryRun: boolean,
): Promise<GptRepair> {
  await using disk = await openRawDisk(path);
  const copies = await readGptCopies(disk.source, sectorSize);
  const trusted = trustedCopy(copies, from);
  const damages = await findDamages(disk, copies, trusted);
  // All of the disk may be used, also when it has grown.
  const table = { ...trusted.table, lastUsableLba: lastFreeLba(trusted.table) };
  assertWritable(table);
  if (damages.length === 0) return { damages, table: trusted.table };
  if (!dryRun) await writeTable(disk, table);
  return { damages, table };
}

function trustedCopy({ primary, backup }: GptCopies, from: RepairOptions["from"]): GptCopy {
  const wanted = from === "backup" ? backup : primary;
  if (from !== undefined) {
    if (isCopy(wanted)) return wanted;
    throw wanted;
  }
  if (!isCopy(primary) || !isCopy(backup)) {
    const usable = isCopy(primary) ? primary : backup;
    if (isCopy(usable)) return usable;
    throw usable;
  }
  const differing = difference(primary, backup);
  if (differing === undefined) return primary;
  throw new DiskImageError("DISK_CORRUPT", "expected one table in both copies, got two different ones, both valid", {
    hint: "look at both with `sgdisk` or `fdisk`, then say which one to believe: --from primary or --from backup",
    cause: differing,
  });
}

async function findDamages(disk: InPlaceFile, copies: GptCopies, trusted: GptCopy): Promise<GptDamage[]> {
  const damages: GptDamage[] = [];
  const { primary, backup } = copies;
  if (!isCopy(primary)) damages.push({ part: "primary", reason: primary.message });
  if (!isCopy(backup)) damages.push({ part: "backup", reason: backup.message });
  else {
    const differing = difference(primary, backup);
    if (differing !== undefined) {
      damages.push({ part: trusted === primary ? "backup" : "primary", reason: differing.message });
    }
    const last = backup.table.sectors - 1n;
    if (backup.lba !== last) {
      const reason = `expected the backup in the last sector, ${last}, got it in sector ${backup.lba}`;
      damages.push({ part: "backup", reason });
    }
  }
  const mbr = mbrState(await disk.source.read(0, MBR_SIZE));
  if (mbr === "other-partitions") {
    throw new DiskImageError("DISK_CORRUPT", "expected a protective MBR, got one with partitions of its own", {
      offset: 0,
      hint: "the disk was partitioned anew without a GPT, or by a program that knows none: repairing would hide that",
    });
  }
  if (mbr === "none") damages.push({ part: "protective-mbr", reason: "expected a protective MBR, got none" });
  return damages;
}
