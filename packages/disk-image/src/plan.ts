import type { z } from "zod";
import { DiskImageError } from "./errors.ts";
import { type Filling, ownSize, prepareFilling } from "./filling.ts";
import { attributeBits, DEFAULT_ENTRY_COUNT, entrySectors, type GptTable, type SectorSize } from "./gpt/table.ts";
import { deterministicUuid, partitionTypeGuid } from "./guid.ts";
import { alignUp } from "./internal/bytes.ts";
import { type DiskOptions, diskOptions, PARTITION_ALIGNMENT, PARTITION_GRAIN, parseOptions } from "./options.ts";

/** A partition with its place on the disk. */
export interface PlannedPartition {
  /** position in the table, from 1 */
  readonly number: number;
  readonly label: string;
  /** GUID of the type */
  readonly type: string;
  readonly uuid: string;
  readonly attributes: bigint;
  /** first byte on the disk */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** A disk, decided before a byte is written. */
export interface DiskPlan {
  readonly sizeBytes: number;
  readonly sectorSize: SectorSize;
  readonly diskGuid: string;
  readonly partitions: readonly PlannedPartition[];
}

/** A plan with what fills each partition. */
export interface PreparedDisk {
  readonly plan: DiskPlan;
  readonly table: GptTable;
  readonly fillings: readonly Filling[];
}

/**
 * Plans a disk without writing it: sizes, places, GUIDs, and whether every content fits.
 *
 * @param options - See {@link DiskOptions}.
 * @returns Where everything will lie.
 * @throws {DiskImageError} `DISK_BAD_OPTIONS`, `DISK_TOO_SMALL` with the arithmetic, `DISK_NOT_FOUND` for a content file
 *   that does not exist, and what {@link planFat} throws.
 * @example
 * const { partitions } = await planDisk({ seed: "demo", partitions: [{ label: "root", type: "root-x86-64", sizeBytes: 2 ** 30 }] });
 */
export async function planDisk(options: DiskOptions): Promise<DiskPlan> {
  return (await prepareDisk(parseOptions(diskOptions, options))).plan;
}

/** Plans a disk and keeps the content beside the places. */
export async function prepareDisk(options: z.output<typeof diskOptions>): Promise<PreparedDisk> {
  const { sectorSize, seed } = options;
  const diskGuid = options.diskGuid ?? derived(seed, "disk", "diskGuid");
  const partitions: PlannedPartition[] = [];
  const fillings: Filling[] = [];
  let offset = PARTITION_ALIGNMENT;
  for (const [index, wanted] of options.partitions.entries()) {
    const number = index + 1;
    const { label, content } = wanted;
    const sizeBytes = await partitionSize(wanted, number);
    const partition: PlannedPartition = {
      number,
      label,
      type: partitionTypeGuid(wanted.type),
      uuid: (wanted.uuid ?? derived(seed, `partition ${number} ${label}`, `partitions[${index}].uuid`)).toLowerCase(),
      attributes: attributeBits(wanted.attributes),
      offsetBytes: offset,
      sizeBytes,
    };
    partitions.push(partition);
    fillings.push(await prepareFilling(partition, content, sectorSize));
    offset = alignUp(offset + sizeBytes, PARTITION_ALIGNMENT);
  }
  assertDistinct(partitions, diskGuid);
  // The backup table has the last aligned piece for itself.
  const least = offset + PARTITION_ALIGNMENT;
  const sizeBytes = options.sizeBytes ?? least;
  assertDiskSize(sizeBytes, sectorSize, partitions);
  const plan: DiskPlan = { sizeBytes, sectorSize, diskGuid: diskGuid.toLowerCase(), partitions };
  return { plan, table: tableOf(plan), fillings };
}

type WantedPartition = z.output<typeof diskOptions>["partitions"][number];

async function partitionSize({ label, sizeBytes, content }: WantedPartition, number: number): Promise<number> {
  const wanted = sizeBytes ?? (await ownSize(content));
  if (wanted === undefined || wanted === 0) {
    const message = `expected a size for partition ${number} (${label}), got none and no content to take it from`;
    throw new DiskImageError("DISK_BAD_OPTIONS", message);
  }
  return alignUp(wanted, PARTITION_GRAIN);
}

function derived(seed: string | undefined, name: string, field: string): string {
  if (seed !== undefined) return deterministicUuid(seed, name);
  throw new DiskImageError("DISK_BAD_OPTIONS", `expected a seed or ${field}, got neither`, {
    hint: "UUIDs are never random here, so that the same description makes the same disk",
  });
}

function assertDistinct(partitions: readonly PlannedPartition[], diskGuid: string): void {
  const seen = new Set([diskGuid.toLowerCase()]);
  for (const { uuid, number } of partitions) {
    if (seen.has(uuid)) {
      throw new DiskImageError(
        "DISK_BAD_OPTIONS",
        `expected different GUIDs, got ${uuid} again for partition ${number}`,
      );
    }
    seen.add(uuid);
  }
}

function assertDiskSize(sizeBytes: number, sectorSize: SectorSize, partitions: readonly PlannedPartition[]): void {
  if (sizeBytes % sectorSize !== 0) {
    throw new DiskImageError(
      "DISK_BAD_OPTIONS",
      `expected a size of whole sectors of ${sectorSize} bytes, got ${sizeBytes}`,
    );
  }
  const backup = (1 + entrySectors(DEFAULT_ENTRY_COUNT, sectorSize)) * sectorSize;
  const last = partitions.at(-1);
  const needed = (last === undefined ? PARTITION_ALIGNMENT : last.offsetBytes + last.sizeBytes) + backup;
  if (sizeBytes >= needed) return;
  const lines = partitions.map(
    ({ label, offsetBytes, sizeBytes: size }) => `${size} bytes for ${label}, from byte ${offsetBytes}`,
  );
  throw new DiskImageError("DISK_TOO_SMALL", `expected a disk of at least ${needed} bytes, got ${sizeBytes}`, {
    neededBytes: needed,
    availableBytes: sizeBytes,
    hint: [...lines, `${backup} bytes for the backup table`, `= ${needed} bytes`].join("\n"),
  });
}

function tableOf({ sizeBytes, sectorSize, diskGuid, partitions }: DiskPlan): GptTable {
  const sectors = BigInt(sizeBytes / sectorSize);
  const entries = BigInt(entrySectors(DEFAULT_ENTRY_COUNT, sectorSize));
  return {
    sectorSize,
    diskGuid,
    sectors,
    firstUsableLba: 2n + entries,
    lastUsableLba: sectors - 2n - entries,
    entryCount: DEFAULT_ENTRY_COUNT,
    partitions: partitions.map((partition) => ({
      number: partition.number,
      type: partition.type,
      uuid: partition.uuid,
      firstLba: BigInt(partition.offsetBytes / sectorSize),
      lastLba: BigInt((partition.offsetBytes + partition.sizeBytes) / sectorSize) - 1n,
      attributes: partition.attributes,
      label: partition.label,
    })),
  };
}
