import type { ByteSink } from "./block-source.ts";
import { contentSize, withContent } from "./content.ts";
import { DiskImageError } from "./errors.ts";
import { type FatPlan, planFat } from "./fat/plan.ts";
import { writeFat } from "./fat/write.ts";
import type { SectorSize } from "./gpt/table.ts";
import type { PartitionContent } from "./options.ts";
import { copyTo, windowSink } from "./sink.ts";

/** What a partition has to tell about itself to be filled. */
interface PartitionPlace {
  readonly number: number;
  readonly label: string;
  /** first byte on the disk */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Content of a partition, checked against its size. */
export interface Filling {
  readonly partition: PartitionPlace;
  readonly content: PartitionContent | undefined;
  readonly fat: FatPlan | undefined;
  /** length of the content in `bytes`, for progress */
  readonly contentBytes: number;
}

/** Finds out how long content is by itself; a file system and a writer are as long as their partition. */
export async function ownSize(content: PartitionContent | undefined): Promise<number | undefined> {
  if (content === undefined || "fat" in content || "write" in content) return undefined;
  return contentSize(content);
}

/** Checks that content fits into its partition, without writing anything. */
export async function prepareFilling(
  partition: PartitionPlace,
  content: PartitionContent | undefined,
  sectorSize: SectorSize,
): Promise<Filling> {
  const { number, label, sizeBytes, offsetBytes } = partition;
  const length = await ownSize(content);
  if (length !== undefined && length > sizeBytes) {
    const message = `expected content of at most ${sizeBytes} bytes for partition ${number} (${label}), got ${length}`;
    throw new DiskImageError("DISK_TOO_SMALL", message, {
      neededBytes: length,
      availableBytes: sizeBytes,
      hint: `${length} bytes of content - ${sizeBytes} bytes of partition = ${length - sizeBytes} bytes too many`,
    });
  }
  const fat =
    content !== undefined && "fat" in content
      ? await planFat({ ...content.fat, sizeBytes, sectorSize, hiddenSectors: offsetBytes / sectorSize })
      : undefined;
  const contentBytes = fat === undefined ? (length ?? 0) : fat.usedClusters * fat.geometry.clusterSize;
  return { partition, content, fat, contentBytes };
}

/** Writes content to its place on a disk that has only zeros there. */
export async function fillPartition(
  disk: ByteSink,
  { partition, content, fat }: Filling,
  signal: AbortSignal | undefined,
  onBytes: (count: number) => void,
): Promise<void> {
  if (content === undefined) return;
  const { offsetBytes, sizeBytes, label, number } = partition;
  const sink = windowSink(disk, offsetBytes, sizeBytes, `partition ${number} (${label})`);
  if (fat !== undefined) await writeFat(fat, sink, { signal, onBytes });
  else if ("write" in content) await content.write({ sizeBytes, signal, write: sink.write });
  else if (!("fat" in content)) await withContent(content, (source) => copyTo(sink, source, 0, { signal, onBytes }));
}
