import { DiskImageError } from "../errors.ts";
import { MBR, MBR_PARTITION, MBR_PARTITION_SIZE, MBR_SIGNATURE, MBR_SIZE, MBR_TYPE_PROTECTIVE } from "../format/gpt.ts";
import { encodeGpt, entrySectors, type GptTable } from "../gpt/table.ts";
import { viewOf } from "../internal/bytes.ts";
import type { InPlaceFile } from "./file.ts";

/** What sector 0 says to programs that know no GPT; `hybrid` has the protective partition beside others. */
export type MbrState = "protective" | "hybrid" | "other-partitions" | "none";

/** Looks at the partitions of the MBR. */
export function mbrState(sector: Uint8Array): MbrState {
  if (viewOf(sector).getUint16(MBR.signature, true) !== MBR_SIGNATURE) return "none";
  const used = partitionTypes(sector).filter((type) => type !== 0);
  if (used.includes(MBR_TYPE_PROTECTIVE)) return used.length === 1 ? "protective" : "hybrid";
  return used.length === 0 ? "none" : "other-partitions";
}

/** Last sector before the backup table of a disk. */
export function lastFreeLba({ sectors, sectorSize, entryCount }: GptTable): bigint {
  return sectors - 2n - BigInt(entrySectors(entryCount, sectorSize));
}

/**
 * Checks that a table can be written to the ends of its disk.
 *
 * @throws {DiskImageError} `DISK_BAD_OPTIONS` for what an entry cannot hold, `DISK_UNSUPPORTED` and `DISK_TOO_SMALL` when
 *   partitions lie where the copies of the table go.
 */
export function assertWritable(table: GptTable): void {
  encodeGpt(table);
  const { sectors, sectorSize, entryCount, firstUsableLba, partitions } = table;
  const firstFree = 2n + BigInt(entrySectors(entryCount, sectorSize));
  if (firstUsableLba < firstFree) {
    const message = `expected the first ${firstFree} sectors to be free for the table, got ${firstUsableLba} of them`;
    throw new DiskImageError("DISK_UNSUPPORTED", message);
  }
  const lastFree = lastFreeLba(table);
  for (const { number, lastLba } of partitions) {
    if (lastLba <= lastFree) continue;
    throw new DiskImageError("DISK_TOO_SMALL", `expected partition ${number} to end before the backup table`, {
      neededBytes: Number(lastLba + sectors - lastFree) * sectorSize,
      availableBytes: Number(sectors) * sectorSize,
      hint: `it ends with sector ${lastLba}, and the disk's last free sector is ${lastFree}: was the disk cut?`,
    });
  }
}

/**
 * Writes both copies of a table to their places, the backup first, so that one of them is whole at every moment. What
 * is in sector 0 stays, but for the length of the protective partition.
 */
export async function writeTable(disk: InPlaceFile, table: GptTable): Promise<void> {
  const { primary, backup } = encodeGpt(table);
  keepMbr(primary, await disk.source.read(0, MBR_SIZE));
  await disk.write(Number(table.sectors) * table.sectorSize - backup.byteLength, backup);
  await disk.sync();
  await disk.write(0, primary);
  await disk.sync();
}

/** Puts what a disk has in sector 0 over the MBR that was made for it. */
function keepMbr(made: Uint8Array, present: Uint8Array): void {
  const state = mbrState(present);
  const length = made.slice(MBR.partitions, MBR.partitions + MBR_PARTITION_SIZE);
  // A boot loader's code is kept whatever the partitions are.
  made.set(present.subarray(0, state === "none" ? MBR.partitions : MBR_SIZE));
  if (state !== "protective") return;
  const entry = MBR.partitions + partitionTypes(present).indexOf(MBR_TYPE_PROTECTIVE) * MBR_PARTITION_SIZE;
  for (const [field, size] of [
    [MBR_PARTITION.endChs, 3],
    [MBR_PARTITION.sectors, 4],
  ] as const) {
    made.set(length.subarray(field, field + size), entry + field);
  }
}

function partitionTypes(sector: Uint8Array): number[] {
  return [0, 1, 2, 3].map((index) => sector[MBR.partitions + index * MBR_PARTITION_SIZE + MBR_PARTITION.type] ?? 0);
}
