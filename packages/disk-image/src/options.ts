import { z } from "zod";
import type { BlockSource, ByteSink } from "./block-source.ts";
import { DiskImageError } from "./errors.ts";
import { GPT_ATTRIBUTES } from "./format/gpt.ts";
import type { PartitionAttribute } from "./gpt/table.ts";
import { isGuid, type PartitionTypeName } from "./guid.ts";

/** Partitions start at multiples of this, in `bytes`. */
export const PARTITION_ALIGNMENT: number = 1024 * 1024;
/** Sizes of partitions are rounded up to this, in `bytes`, so that they are whole sectors of either size. */
export const PARTITION_GRAIN = 4096;

export const sectorSizeOption = z.union([z.literal(512), z.literal(4096)]);
const guid = z.string().refine(isGuid, "expected a GUID such as 01234567-89ab-cdef-0123-456789abcdef");
const byteCount = z.int().positive();

function hasMethod(value: unknown, method: string): boolean {
  return typeof value === "object" && value !== null && typeof Reflect.get(value, method) === "function";
}

const blockSource = z.custom<BlockSource>(
  (value) => hasMethod(value, "read") && Number.isSafeInteger(Reflect.get(value as object, "sizeBytes")),
  "expected a source with sizeBytes and read",
);

/** Where the content of a file or a partition comes from: bytes, a file of this machine, or any random-access source. */
export type Content = Uint8Array | { readonly file: string } | { readonly source: BlockSource };

const content = z.union([
  z.instanceof(Uint8Array),
  z.strictObject({ file: z.string().min(1) }),
  z.strictObject({ source: blockSource }),
]);

export const fatOptions = z.strictObject({
  sizeBytes: byteCount,
  files: z.record(z.string(), content),
  directories: z.array(z.string()).default([]),
  label: z.string().default("NO NAME"),
  volumeId: z.int().min(0).max(0xffff_ffff),
  time: z.date(),
  type: z.union([z.literal(12), z.literal(16), z.literal(32)]).optional(),
  sectorSize: sectorSizeOption.default(512),
  clusterSizeBytes: byteCount.optional(),
  hiddenSectors: z.int().min(0).max(0xffff_ffff).default(0),
});

/** A FAT file system to be made. */
export interface FatOptions {
  /** size of the file system in `bytes` */
  readonly sizeBytes: number;
  /** contents by path; `/` separates names, directories are made as needed */
  readonly files: Readonly<Record<string, Content>>;
  /** directories to make besides those that files need */
  readonly directories?: readonly string[] | undefined;
  /** volume label, at most 11 characters of upper case ASCII; `NO NAME` unless given */
  readonly label?: string | undefined;
  /** serial number, 32 bits */
  readonly volumeId: number;
  /** time of every entry, in UTC from 1980 to 2107, to two seconds */
  readonly time: Date;
  /** bits of a FAT entry; 32 where the size allows it, otherwise 16 or 12 */
  readonly type?: 12 | 16 | 32 | undefined;
  /** logical sector size in `bytes`, 512 */
  readonly sectorSize?: 512 | 4096 | undefined;
  /** cluster size in `bytes`, a power of two of sectors; chosen by size unless given */
  readonly clusterSizeBytes?: number | undefined;
  /** sectors in front of the file system on its disk, 0; only a BIOS cares */
  readonly hiddenSectors?: number | undefined;
}

/** What a partition's own writer gets. */
export interface PartitionSink extends ByteSink {
  /** size of the partition in `bytes` */
  readonly sizeBytes: number;
  /** aborts with the whole image */
  readonly signal: AbortSignal | undefined;
}

/** Everything a partition can be filled with; left out, it is all zeros. */
export type PartitionContent =
  | Content
  | { readonly fat: Omit<FatOptions, "sizeBytes" | "sectorSize" | "hiddenSectors"> }
  | { readonly write: (sink: PartitionSink) => Promise<unknown> };

const fatInPartition = fatOptions.omit({ sizeBytes: true, sectorSize: true, hiddenSectors: true });

const label = z.string().max(36);
const attributes = z.array(z.enum(Object.keys(GPT_ATTRIBUTES) as [PartitionAttribute, ...PartitionAttribute[]]));
const partitionContent = z.union([
  content,
  z.strictObject({ fat: fatInPartition }),
  z.strictObject({
    write: z.custom<(sink: PartitionSink) => Promise<unknown>>((value) => typeof value === "function"),
  }),
]);

const partition = z.strictObject({
  label,
  type: z.string(),
  uuid: guid.optional(),
  sizeBytes: byteCount.optional(),
  attributes: attributes.default([]),
  content: partitionContent.optional(),
});

const control = {
  signal: z.instanceof(AbortSignal).optional(),
  onProgress: z.custom<(event: DiskProgress) => void>((value) => typeof value === "function").optional(),
};

/** How a disk lies in a file: byte for byte with holes, or as QEMU's own format, whose files are as small anywhere. */
export type ImageFormat = "raw" | "qcow2";

export const diskOptions = z.strictObject({
  format: z.enum(["raw", "qcow2"]).default("raw"),
  seed: z.string().optional(),
  diskGuid: guid.optional(),
  sizeBytes: byteCount.optional(),
  sectorSize: sectorSizeOption.default(512),
  partitions: z.array(partition).max(128),
  ...control,
});

export const replaceOptions = z
  .strictObject({
    content: partitionContent.optional(),
    label: label.optional(),
    type: z.string().optional(),
    uuid: guid.optional(),
    attributes: attributes.optional(),
    sectorSize: sectorSizeOption.optional(),
    ...control,
  })
  .refine(
    ({ content, label, type, uuid, attributes }) =>
      [content, label, type, uuid, attributes].some((value) => value !== undefined),
    "expected something to replace: content, label, type, uuid or attributes",
  );

/** One partition of a disk to be made. */
export interface PartitionOptions {
  /** name, at most 36 UTF-16 code units */
  readonly label: string;
  /** name of a discoverable type, or a GUID */
  readonly type: PartitionTypeName | (string & {});
  /** GUID; derived from the disk's seed unless given */
  readonly uuid?: string | undefined;
  /** size in `bytes`, rounded up to 4096; that of the content unless given */
  readonly sizeBytes?: number | undefined;
  readonly attributes?: readonly PartitionAttribute[] | undefined;
  readonly content?: PartitionContent | undefined;
}

/** A disk to be made. */
export interface DiskOptions {
  /** `raw` unless given */
  readonly format?: ImageFormat | undefined;
  /** what UUIDs that are not given are derived from */
  readonly seed?: string | undefined;
  /** GUID of the disk; derived from `seed` unless given */
  readonly diskGuid?: string | undefined;
  /** size in `bytes`; what the partitions need unless given */
  readonly sizeBytes?: number | undefined;
  /** logical sector size in `bytes`, 512 */
  readonly sectorSize?: 512 | 4096 | undefined;
  /** partitions in the order in which they lie on the disk */
  readonly partitions: readonly PartitionOptions[];
  readonly signal?: AbortSignal | undefined;
  /** called after each piece */
  readonly onProgress?: ((event: DiskProgress) => void) | undefined;
}

/** Progress of writing a disk. */
export interface DiskProgress {
  /** label of the partition in hand */
  readonly partition: string;
  /** bytes of all partitions finished, holes included */
  readonly doneBytes: number;
  /** size of all partitions with content */
  readonly totalBytes: number;
}

/** Checks options at the public boundary; all problems are reported at once. */
export function parseOptions<T extends z.ZodType>(schema: T, options: unknown): z.output<T> {
  const result = schema.safeParse(options);
  if (result.success) return result.data;
  throw new DiskImageError("DISK_BAD_OPTIONS", z.prettifyError(result.error), { cause: result.error });
}
