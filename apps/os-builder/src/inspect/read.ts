import { type DiskImage, type DiskPartition, openDiskImage } from "@leveret/disk-image";
import { decodeSuperblock } from "@leveret/erofs-meta";
import { firstLine } from "../internal/reason.ts";
import { readChain, type TrustedCertificates } from "./chain.ts";
import { type EspReader, espReader } from "./esp.ts";
import type { ImageInspection, InspectedPartition } from "./model.ts";

/** An EROFS superblock's checksum covers the first block, which is at most this long, in `bytes`. */
const MAX_EROFS_BLOCK_BYTES = 64 * 1024;

/** How {@link inspectImage} works. */
export interface InspectImageOptions {
  /** certificates that the image has to be signed by; without them, signatures are only read */
  readonly trusted?: TrustedCertificates | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads a disk image's partitions and follows its trust chain: firmware, boot loader, kernel image, root hash, /usr.
 * The image is only read, nothing in it is believed, and whatever is wrong below the partition table is a verdict and
 * not an error.
 *
 * @param path - A raw disk image.
 * @throws {DiskImageError} When there is no such file or no partition table in it. An abort throws the signal's reason.
 * @example
 * const { chain } = await inspectImage("images/particle_0.1.0.raw");
 */
export async function inspectImage(path: string, options: InspectImageOptions = {}): Promise<ImageInspection> {
  await using disk = await openDiskImage(path);
  const { signal } = options;
  const readEsp = espReader(disk, signal);
  const partitions: InspectedPartition[] = [];
  for (const partition of disk.partitions) {
    partitions.push(await describePartition(disk, partition, readEsp));
    signal?.throwIfAborted();
  }
  const { primary, backup, table } = disk.gpt;
  return {
    path,
    sizeBytes: disk.sizeBytes,
    diskGuid: table.diskGuid,
    warnings: [
      ...(primary === "valid" ? [] : [`the partition table at the start is damaged: ${primary.message}`]),
      ...(backup === "valid" ? [] : [`the partition table at the end is damaged: ${backup.message}`]),
    ],
    partitions,
    chain: await readChain(disk, { ...options, readEsp }),
  };
}

async function describePartition(
  disk: DiskImage,
  partition: DiskPartition,
  readEsp: EspReader,
): Promise<InspectedPartition> {
  const { number, label, typeName, type, uuid, offsetBytes, sizeBytes } = partition;
  const content = await describeContent(disk, partition, readEsp).catch(firstLine);
  return { number, label, type: typeName ?? type, uuid, startBytes: offsetBytes, sizeBytes, content };
}

async function describeContent(
  disk: DiskImage,
  { number, typeName, label }: DiskPartition,
  readEsp: EspReader,
): Promise<string> {
  if (typeName === "esp") return `FAT, ${(await readEsp(number)).fileCount} files`;
  const source = disk.open(number);
  if (label === "_empty") return "free slot";
  if (typeName?.startsWith("usr") !== true) return "";
  if (typeName.endsWith("-sig")) return "signature of the root hash";
  if (typeName.endsWith("-verity")) return "hash tree";
  const { inodes } = decodeSuperblock(await source.read(0, Math.min(source.sizeBytes, MAX_EROFS_BLOCK_BYTES)));
  return `EROFS, ${inodes} inodes`;
}
