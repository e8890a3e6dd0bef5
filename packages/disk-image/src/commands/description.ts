import { dirname, resolve } from "node:path";
import { z } from "zod";
import { DiskImageError } from "../errors.ts";
import { GPT_ATTRIBUTES } from "../format/gpt.ts";
import type { PartitionAttribute } from "../gpt/table.ts";
import { deterministicUuid } from "../guid.ts";
import { readWhole } from "../internal/files.ts";
import { type DiskOptions, type PartitionContent, type PartitionOptions, parseOptions } from "../options.ts";

/** Most bytes of a description: enough for a file system with a hundred thousand files. */
const MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024;
const UNITS: Readonly<Record<string, number>> = { "": 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };
const SIZE = /^(\d+(?:\.\d+)?)([KMGT]?)$/;

const size = z.union(
  [
    z.int().positive(),
    z
      .string()
      .regex(SIZE)
      .transform((text) => {
        const [, number = "0", unit = ""] = SIZE.exec(text) ?? [];
        return Math.round(Number(number) * (UNITS[unit] ?? 1));
      }),
  ],
  { error: "expected bytes, or a number with K, M, G or T such as 512M" },
);

const fat = z.strictObject({
  files: z.record(z.string(), z.string()).default({}),
  directories: z.array(z.string()).optional(),
  label: z.string().optional(),
  volumeId: z.int().min(0).max(0xffff_ffff).optional(),
  // The earliest time that FAT can say.
  time: z.iso.datetime({ offset: true }).default("1980-01-01T00:00:00Z"),
  type: z.union([z.literal(12), z.literal(16), z.literal(32)]).optional(),
  clusterSizeBytes: z.int().positive().optional(),
});

/** What a description may say. */
export const description = z.strictObject({
  seed: z.string().optional(),
  diskGuid: z.string().optional(),
  size: size.optional(),
  sectorSize: z.union([z.literal(512), z.literal(4096)]).optional(),
  partitions: z.array(
    z.strictObject({
      label: z.string(),
      type: z.string(),
      uuid: z.string().optional(),
      size: size.optional(),
      attributes: z
        .array(z.enum(Object.keys(GPT_ATTRIBUTES) as [PartitionAttribute, ...PartitionAttribute[]]))
        .optional(),
      file: z.string().optional(),
      fat: fat.optional(),
    }),
  ),
});

/**
 * Reads a JSON description of a disk: the options of `writeDiskImage` with sizes that may be text such as `512M`, and
 * files by path, relative to the description.
 */
export async function readDescription(path: string, signal?: AbortSignal): Promise<DiskOptions> {
  const bytes = await readWhole(path, { maxBytes: MAX_DESCRIPTION_BYTES, signal });
  const text = Buffer.from(bytes).toString("utf8");
  const { size: sizeBytes, partitions, ...rest } = parseOptions(description, parseJson(text, path));
  const folder = dirname(path);
  return {
    ...rest,
    sizeBytes,
    partitions: partitions.map((partition, index) => partitionOf(partition, index, folder, rest.seed)),
  };
}

type DescribedPartition = z.output<typeof description>["partitions"][number];

function partitionOf(
  described: DescribedPartition,
  index: number,
  folder: string,
  seed: string | undefined,
): PartitionOptions {
  const { size: sizeBytes, file, fat: system, ...rest } = described;
  if (file !== undefined && system !== undefined) {
    throw new DiskImageError("DISK_BAD_OPTIONS", `expected partitions[${index}] with file or fat, got both`);
  }
  let content: PartitionContent | undefined;
  if (file !== undefined) content = { file: resolve(folder, file) };
  if (system !== undefined) {
    const files = Object.entries(system.files).map(
      ([inside, real]) => [inside, { file: resolve(folder, real) }] as const,
    );
    const volumeId = system.volumeId ?? volumeIdOf(seed, described.label, index);
    content = { fat: { ...system, volumeId, time: new Date(system.time), files: Object.fromEntries(files) } };
  }
  return { ...rest, sizeBytes, content };
}

function volumeIdOf(seed: string | undefined, label: string, index: number): number {
  if (seed !== undefined) return Number.parseInt(deterministicUuid(seed, `volume ${label}`).slice(0, 8), 16);
  throw new DiskImageError("DISK_BAD_OPTIONS", "expected a volumeId, or a seed to make one of, got neither", {
    hint: `set "seed", or "volumeId" in partitions[${index}].fat`,
  });
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DiskImageError("DISK_BAD_OPTIONS", `expected JSON in ${path}, got something else`, {
      path,
      hint: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
