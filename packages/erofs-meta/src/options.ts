import { z } from "zod";
import type { BlockSource, ByteSink } from "./block-source.ts";
import { ErofsError } from "./errors.ts";
import type { ExtractedXattrs } from "./extract.ts";
import { MAX_STORED_EXTENT_SIZE } from "./format/compression.ts";
import { FEC_ROOTS } from "./format/fec.ts";
import { MAX_BLOCK_SIZE_BITS, MIN_BLOCK_SIZE_BITS, VOLUME_NAME_SIZE } from "./format/superblock.ts";
import {
  VERITY_DIGEST_SIZES,
  VERITY_MAX_BLOCK_SIZE,
  VERITY_MAX_SALT_BYTES,
  VERITY_MIN_BLOCK_SIZE,
} from "./format/verity.ts";
import { MAX_LONG_PREFIXES, XATTR_PREFIXES } from "./format/xattr.ts";
import { ErofsImage } from "./read/image.ts";

/** Most names a walk yields before it gives up. */
export const DEFAULT_MAX_ENTRIES = 10_000_000;
/** Most directories inside one another, the root included, that are read, and that are written. */
export const DEFAULT_MAX_DEPTH = 2048;
/** Most bytes `readFile` puts into memory. */
export const DEFAULT_MAX_FILE_BYTES = 1024 * 1024 * 1024;
/** Most symbolic links one lookup follows, as Linux has it. */
export const DEFAULT_MAX_SYMLINKS = 40;
/** Most damaged places a verity report lists. */
export const DEFAULT_MAX_DAMAGE = 1024;
/** Data and hash block size that every tool defaults to. */
export const DEFAULT_VERITY_BLOCK_SIZE = 4096;

/** Block size of written images that every Linux mounts. */
export const DEFAULT_BLOCK_SIZE = 4096;
/** Most bytes of files' ends kept in memory while an image is written. */
export const DEFAULT_MAX_TAIL_BYTES = 128 * 1024 * 1024;
/** Most extents of an older image whose places a new one takes over. */
export const DEFAULT_MAX_OLD_EXTENTS = 2 ** 24;
/** Most bytes an extraction writes, holes included. */
export const DEFAULT_MAX_EXTRACT_BYTES = 2 ** 40;
/** Most blocks of an image that are compared with another's, 16 GiB of them. */
export const DEFAULT_MAX_DIFF_BLOCKS = 2 ** 22;
/** Most parts of an image that a check compares with each other. */
export const DEFAULT_MAX_REGIONS = 2 ** 22;
/** Most bytes of one extended header of a tar archive. */
export const DEFAULT_MAX_TAR_HEADER_BYTES = 1024 * 1024;
/** Times are signed 64-bit numbers in Linux. */
const MAX_TIME = 2n ** 63n - 1n;

const isSignal = z.instanceof(AbortSignal);
const count = z.int().positive();

export const walkOptions = z.strictObject({
  levels: z.int().min(0).default(Number.MAX_SAFE_INTEGER),
  maxEntries: count.default(DEFAULT_MAX_ENTRIES),
  maxDepth: count.default(DEFAULT_MAX_DEPTH),
  signal: isSignal.optional(),
});

/** How far a walk goes, and what it may not exceed. */
export interface WalkOptions {
  /** directories to go down: 0 for the start alone, 1 for the names in it; all of them unless given */
  readonly levels?: number | undefined;
  /** names to yield before failing with `EROFS_LIMIT`, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  /** directories inside one another, {@link DEFAULT_MAX_DEPTH} */
  readonly maxDepth?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

function powerOfTwo(least: number, most: number): z.ZodNumber {
  return z
    .int()
    .min(least)
    .max(most)
    .refine((size) => Number.isInteger(Math.log2(size)), "expected a power of two");
}

const blockSize = powerOfTwo(VERITY_MIN_BLOCK_SIZE, VERITY_MAX_BLOCK_SIZE).default(DEFAULT_VERITY_BLOCK_SIZE);

const algorithm = z.enum(Object.keys(VERITY_DIGEST_SIZES) as [VerityAlgorithm, ...VerityAlgorithm[]]);

/** Hash functions a verity tree can use, named as the kernel's crypto API names them. */
export type VerityAlgorithm = keyof typeof VERITY_DIGEST_SIZES;

/** Progress of a long operation over data. */
export interface VerityProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

const progress = z.custom<(event: VerityProgress) => void>((value) => typeof value === "function").optional();
const workers = z.int().min(0).max(256).optional();

const isSource = (value: unknown): boolean => typeof (value as BlockSource | null)?.read === "function";
const isSink = (value: unknown): boolean => typeof (value as ByteSink | null)?.write === "function";
const sink = z.custom<ByteSink>(isSink, "expected a sink");
const output = z.union([z.string().min(1), z.custom<ByteSink>(isSink, "expected a path or a sink")]);

export const buildVerityOptions = z.strictObject({
  output,
  salt: z
    .instanceof(Uint8Array)
    .refine((salt) => salt.byteLength <= VERITY_MAX_SALT_BYTES, "expected at most 256 bytes"),
  uuid: z.guid(),
  dataBlockSize: blockSize,
  hashBlockSize: blockSize,
  algorithm: algorithm.default("sha256"),
  workers,
  signal: isSignal.optional(),
  onProgress: progress,
});

export const verifyVerityOptions = z.strictObject({
  rootHash: z.instanceof(Uint8Array),
  workers,
  maxDamage: count.default(DEFAULT_MAX_DAMAGE),
  signal: isSignal.optional(),
  onProgress: progress,
});

const roots = z.int().min(FEC_ROOTS.min).max(FEC_ROOTS.max).default(FEC_ROOTS.default);

export const buildFecOptions = z.strictObject({ output, roots, signal: isSignal.optional(), onProgress: progress });

export const repairVerityOptions = z.strictObject({
  rootHash: z.instanceof(Uint8Array),
  roots,
  dataOutput: sink,
  treeOutput: sink,
  maxDamage: count.default(DEFAULT_MAX_DAMAGE),
  workers,
  signal: isSignal.optional(),
  onProgress: progress,
});

/** Block size at which contents can be compressed: the only one that every Linux decodes. */
const COMPRESSIBLE_BLOCK_SIZE = 4096;

/** How contents are compressed. */
export interface CompressionOptions {
  /** `lz4` decodes fastest, `deflate` is smaller and takes Linux 6.6 */
  readonly algorithm: "lz4" | "deflate";
  /** effort of deflate, 1..9, 6 unless given */
  readonly level?: number | undefined;
  /**
   * most `bytes` that are compressed together take in the image, a power of two in 4096..1048576; larger is smaller and
   * slower to read at random; 4096 for lz4 and 65536 for deflate unless given
   */
  readonly clusterSize?: number | undefined;
}

const compression = z.strictObject({
  algorithm: z.enum(["lz4", "deflate"]),
  level: z.int().min(1).max(9).default(6),
  clusterSize: powerOfTwo(COMPRESSIBLE_BLOCK_SIZE, MAX_STORED_EXTENT_SIZE).optional(),
});

/** What an xattr name can start with: one of the namespaces with at most as much behind it as a name can have. */
function isXattrPrefix(text: string): boolean {
  const namespaces = [...XATTR_PREFIXES.values()].filter((prefix) => prefix.endsWith("."));
  return namespaces.some((prefix) => text.startsWith(prefix)) && Buffer.byteLength(text) <= 255 && !text.includes("\0");
}

const writeErofsFields = z.strictObject({
  output,
  uuid: z.guid().optional(),
  buildTime: z.bigint().min(0n).max(MAX_TIME),
  buildTimeNsec: z.int().min(0).max(999_999_999).default(0),
  fixedTime: z.boolean().default(false),
  volumeName: z
    .string()
    .refine(
      (name) => new TextEncoder().encode(name).byteLength <= VOLUME_NAME_SIZE && !name.includes("\0"),
      `expected at most ${VOLUME_NAME_SIZE} bytes without NUL`,
    )
    .default(""),
  blockSize: powerOfTwo(2 ** MIN_BLOCK_SIZE_BITS, 2 ** MAX_BLOCK_SIZE_BITS).default(DEFAULT_BLOCK_SIZE),
  sparse: z.boolean().default(true),
  maxTailBytes: z.int().min(0).default(DEFAULT_MAX_TAIL_BYTES),
  maxEntries: count.default(DEFAULT_MAX_ENTRIES),
  maxDepth: count.default(DEFAULT_MAX_DEPTH),
  xattrPrefixes: z
    .array(z.string().refine(isXattrPrefix, `expected a start in ${[...XATTR_PREFIXES.values()].join(", ")}`))
    .max(MAX_LONG_PREFIXES)
    .default([]),
  compression: compression.optional(),
  like: z.custom<ErofsImage>((value) => value instanceof ErofsImage, "expected an open image").optional(),
  workers,
  signal: isSignal.optional(),
});

export const writeErofsOptions = writeErofsFields.refine(
  (options) => options.compression === undefined || options.blockSize === COMPRESSIBLE_BLOCK_SIZE,
  { path: ["blockSize"], message: `expected ${COMPRESSIBLE_BLOCK_SIZE} with compression` },
);

export const extractOptions = z.strictObject({
  from: z.string().default("/"),
  owners: z.boolean().default(false),
  setId: z.boolean().default(false),
  onXattrs: z.custom<(extracted: ExtractedXattrs) => unknown>((value) => typeof value === "function").optional(),
  maxBytes: count.default(DEFAULT_MAX_EXTRACT_BYTES),
  maxEntries: count.default(DEFAULT_MAX_ENTRIES),
  signal: isSignal.optional(),
});

export const checkErofsOptions = z.strictObject({
  devices: z.array(z.custom<BlockSource>(isSource, "expected a source")).optional(),
  maxProblems: count.default(DEFAULT_MAX_DAMAGE),
  maxEntries: count.default(DEFAULT_MAX_ENTRIES),
  maxContentBytes: count.default(DEFAULT_MAX_EXTRACT_BYTES),
  maxRegions: count.default(DEFAULT_MAX_REGIONS),
  signal: isSignal.optional(),
  onProgress: z
    .custom<(event: { readonly names: number; readonly contentBytes: number }) => void>(
      (value) => typeof value === "function",
    )
    .optional(),
});

export const diffOptions = z.strictObject({
  times: z.boolean().default(true),
  maxEntries: count.default(DEFAULT_MAX_ENTRIES),
  maxBlocks: count.default(DEFAULT_MAX_DIFF_BLOCKS),
  signal: isSignal.optional(),
});

/** Checks options at the public boundary; all problems are reported at once. */
export function parseOptions<T extends z.ZodType>(schema: T, options: unknown): z.output<T> {
  const result = schema.safeParse(options);
  if (result.success) return result.data;
  throw new ErofsError("EROFS_BAD_OPTIONS", z.prettifyError(result.error), { cause: result.error });
}
