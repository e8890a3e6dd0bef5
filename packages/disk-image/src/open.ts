import { type BlockSource, type DisposableBlockSource, fileSource, windowSource } from "./block-source.ts";
import { DiskImageError } from "./errors.ts";
import { type FoundGpt, readGpt } from "./gpt/read.ts";
import { attributeNames, type GptPartition, type SectorSize } from "./gpt/table.ts";
import { partitionTypeName } from "./guid.ts";
import type { ImageFormat } from "./options.ts";
import { isQcow2 } from "./qcow2/header.ts";
import { qcow2Source } from "./qcow2/read.ts";

/** Bytes that tell the formats of images apart. */
const MAGIC_BYTES = 4;

/** A partition found on a disk. */
export interface DiskPartition extends GptPartition {
  /** name of the type, when this package has one */
  readonly typeName: string | undefined;
  readonly attributeNames: readonly string[];
  /** first byte on the disk */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** A disk opened for reading. */
export class DiskImage {
  /** the table and the state of its copies */
  readonly gpt: FoundGpt;
  readonly partitions: readonly DiskPartition[];
  readonly sizeBytes: number;
  /** how the disk lies in what was opened */
  readonly format: ImageFormat;
  readonly #source: BlockSource;

  /** Use {@link openDiskImage}. */
  constructor(source: BlockSource, gpt: FoundGpt, format: ImageFormat) {
    const { sectorSize, partitions } = gpt.table;
    this.#source = source;
    this.gpt = gpt;
    this.format = format;
    this.sizeBytes = source.sizeBytes;
    this.partitions = partitions.map((partition) => ({
      ...partition,
      typeName: partitionTypeName(partition.type),
      attributeNames: attributeNames(partition.attributes),
      offsetBytes: Number(partition.firstLba) * sectorSize,
      sizeBytes: Number(partition.lastLba - partition.firstLba + 1n) * sectorSize,
    }));
  }

  /**
   * Finds one partition.
   *
   * @param which - Number, or a label, UUID or type (name or GUID) that only one partition has.
   * @throws {DiskImageError} `DISK_NOT_FOUND` when none or several match.
   */
  partition(which: number | string): DiskPartition {
    const matches = this.partitions.filter(({ number, label, uuid, type, typeName }) => {
      if (typeof which === "number") return number === which;
      return label === which || typeName === which || uuid === which.toLowerCase() || type === which.toLowerCase();
    });
    const [found, second] = matches;
    if (found !== undefined && second === undefined) return found;
    const labels = this.partitions.map(({ number, label }) => `${number} (${label})`).join(", ");
    throw new DiskImageError(
      "DISK_NOT_FOUND",
      `expected one partition ${JSON.stringify(which)}, got ${matches.length}`,
      {
        hint: labels === "" ? "the disk has no partitions" : `partitions: ${labels}`,
      },
    );
  }

  /**
   * Opens a partition's bytes.
   *
   * @param which - As for {@link partition}.
   * @returns A window of the disk; closing it does not close the disk.
   */
  open(which: number | string): DisposableBlockSource {
    const { offsetBytes, sizeBytes } = this.partition(which);
    return windowSource(this.#source, offsetBytes, sizeBytes);
  }

  /** Closes the source the disk was opened on. */
  async close(): Promise<void> {
    await this.#source.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens a disk image with a GUID partition table: raw, a block device, or qcow2.
 *
 * @param disk - Path of the image, or a source; closed with the disk.
 * @param options - `sectorSize` to look with; 512 and 4096 are tried unless given.
 * @returns The disk and its partitions.
 * @throws {DiskImageError} As {@link readGpt} and {@link qcow2Source}, and `DISK_NOT_FOUND` when there is no such file.
 * @example
 * await using disk = await openDiskImage("os.raw");
 * const usr = disk.open("usr-x86-64");
 */
export async function openDiskImage(
  disk: string | BlockSource,
  options: { readonly sectorSize?: SectorSize | undefined } = {},
): Promise<DiskImage> {
  const file = typeof disk === "string" ? await fileSource(disk) : disk;
  try {
    const format = isQcow2(await file.read(0, Math.min(MAGIC_BYTES, file.sizeBytes))) ? "qcow2" : "raw";
    const source = format === "qcow2" ? await qcow2Source(file) : file;
    return new DiskImage(source, await readGpt(source, options), format);
  } catch (error) {
    if (typeof disk === "string") await file.close();
    throw error;
  }
}
