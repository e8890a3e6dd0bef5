import { hash } from "node:crypto";
import type { BlockSource } from "./block-source.ts";
import { ErofsError } from "./errors.ts";
import { diffOptions, parseOptions } from "./options.ts";
import type { ErofsImage } from "./read/image.ts";
import type { Inode } from "./read/inode.ts";

/** What two nodes of the same path can differ in. */
export type DiffAspect =
  | "type"
  | "mode"
  | "owner"
  | "mtime"
  | "links"
  | "size"
  | "target"
  | "device"
  | "xattrs"
  | "content";

/** What two superblocks can differ in. */
export type DiffField = (typeof FIELDS)[number];

/** How to compare. */
export interface DiffOptions {
  /** compare modification times, and when the images were built; true unless given */
  readonly times?: boolean | undefined;
  /** most names in either image, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  /** most blocks of 4 KiB in either image, {@link DEFAULT_MAX_DIFF_BLOCKS} */
  readonly maxBlocks?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How one image differs from another. */
export interface ErofsDiff {
  /** whether nothing differs; where things lie in the images does not count */
  readonly isSame: boolean;
  /** fields of the superblock that say something else */
  readonly superblock: readonly DiffField[];
  /** paths that only the second image has, in its order */
  readonly added: readonly string[];
  /** paths that only the first image has, in its order */
  readonly removed: readonly string[];
  /** paths that both have with something else behind them */
  readonly changed: readonly { readonly path: string; readonly aspects: readonly DiffAspect[] }[];
  /** blocks of 4 KiB of the second image, and how many of them the first has anywhere, and at the same place */
  readonly blocks: { readonly total: number; readonly known: number; readonly inPlace: number };
}

/** Fields that say what the image is, and not where things are in it. */
const FIELDS = [
  "uuid",
  "volumeName",
  "buildTime",
  "blockSize",
  "compatFeatures",
  "incompatFeatures",
  "compressionAlgorithms",
] as const;

/** The unit in which updates are transferred, in `bytes`. */
const DIFF_BLOCK_SIZE = 4096;
const READ_BLOCKS = 256;

/**
 * Compares two images: names, attributes, contents and what their superblocks say, and how much of the second one's
 * bytes the first one has already, at the same place or elsewhere, which is what decides the size of an update.
 *
 * @param before - The first image.
 * @param after - The second image.
 * @param options - See {@link DiffOptions}.
 * @returns Paths, and counts of blocks.
 * @throws {ErofsError} `EROFS_BAD_OPTIONS`, `EROFS_LIMIT`, and what reading throws.
 * @example
 * const { changed, blocks } = await diffErofs(oldImage, newImage);
 */
export async function diffErofs(before: ErofsImage, after: ErofsImage, options: DiffOptions = {}): Promise<ErofsDiff> {
  const { times, maxEntries, maxBlocks, signal } = parseOptions(diffOptions, options);
  const old = new Map<string, Inode>();
  for await (const { path, inode } of before.walk({ maxEntries, signal })) old.set(path, inode);
  const added: string[] = [];
  const changed: { path: string; aspects: DiffAspect[] }[] = [];
  for await (const { path, inode } of after.walk({ maxEntries, signal })) {
    const known = old.get(path);
    old.delete(path);
    if (known === undefined) {
      added.push(path);
      continue;
    }
    const aspects = await aspectsOf([before, known], [after, inode], times);
    if (aspects.length > 0) changed.push({ path, aspects });
  }
  const removed = [...old.keys()];
  const superblock = FIELDS.filter(
    (field) => (times || field !== "buildTime") && fieldText(before, field) !== fieldText(after, field),
  );
  const isSame = [superblock, added, removed, changed].every((differences) => differences.length === 0);
  return { isSame, superblock, added, removed, changed, blocks: await countBlocks(before, after, maxBlocks, signal) };
}

function fieldText({ superblock }: ErofsImage, field: DiffField): string {
  return field === "buildTime" ? `${superblock.buildTime}.${superblock.buildTimeNsec}` : `${superblock[field]}`;
}

type Side = readonly [ErofsImage, Inode];

async function aspectsOf(before: Side, after: Side, times: boolean): Promise<DiffAspect[]> {
  const [[oldImage, old], [newImage, now]] = [before, after];
  if (old.type !== now.type) return ["type"];
  const aspects: DiffAspect[] = [];
  if (old.mode !== now.mode) aspects.push("mode");
  if (old.uid !== now.uid || old.gid !== now.gid) aspects.push("owner");
  if (times && (old.mtime !== now.mtime || old.mtimeNsec !== now.mtimeNsec)) aspects.push("mtime");
  if (old.links !== now.links) aspects.push("links");
  if (old.device?.major !== now.device?.major || old.device?.minor !== now.device?.minor) aspects.push("device");
  if ((await xattrsText(before)) !== (await xattrsText(after))) aspects.push("xattrs");
  if (now.type === "symlink") {
    if ((await oldImage.readLink(old)) !== (await newImage.readLink(now))) aspects.push("target");
  } else if (now.type === "file") {
    if (old.sizeBytes !== now.sizeBytes) aspects.push("size", "content");
    else if (!(await hasSameContent(before, after))) aspects.push("content");
  }
  return aspects;
}

async function xattrsText([image, inode]: Side): Promise<string> {
  const xattrs = await image.xattrs(inode);
  return JSON.stringify(xattrs.map(({ name, value }) => [name, Buffer.from(value).toString("hex")]).sort());
}

/** Compares two streams that come in different pieces. */
async function hasSameContent([oldImage, old]: Side, [newImage, now]: Side): Promise<boolean> {
  const left = oldImage.content(old);
  const right = newImage.content(now);
  try {
    let a: Uint8Array = new Uint8Array(0);
    let b: Uint8Array = new Uint8Array(0);
    for (;;) {
      if (a.byteLength === 0) a = (await left.next()).value ?? a;
      if (b.byteLength === 0) b = (await right.next()).value ?? b;
      const length = Math.min(a.byteLength, b.byteLength);
      if (length === 0) return a.byteLength === b.byteLength;
      if (Buffer.compare(a.subarray(0, length), b.subarray(0, length)) !== 0) return false;
      a = a.subarray(length);
      b = b.subarray(length);
    }
  } finally {
    await left.return(undefined);
    await right.return(undefined);
  }
}

async function countBlocks(
  before: ErofsImage,
  after: ErofsImage,
  maxBlocks: number,
  signal: AbortSignal | undefined,
): Promise<ErofsDiff["blocks"]> {
  const known = new Set<string>();
  const places: string[] = [];
  for await (const digest of blockDigests(before.source, maxBlocks, signal)) {
    known.add(digest);
    places.push(digest);
  }
  const blocks = { total: 0, known: 0, inPlace: 0 };
  for await (const digest of blockDigests(after.source, maxBlocks, signal)) {
    if (places[blocks.total] === digest) blocks.inPlace += 1;
    if (known.has(digest)) blocks.known += 1;
    blocks.total += 1;
  }
  return blocks;
}

async function* blockDigests(
  source: BlockSource,
  maxBlocks: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<string> {
  if (source.sizeBytes > maxBlocks * DIFF_BLOCK_SIZE) {
    throw new ErofsError("EROFS_LIMIT", `expected at most ${maxBlocks} blocks, got ${source.sizeBytes} bytes`);
  }
  const step = READ_BLOCKS * DIFF_BLOCK_SIZE;
  for (let at = 0; at < source.sizeBytes; at += step) {
    signal?.throwIfAborted();
    const bytes = await source.read(at, Math.min(step, source.sizeBytes - at));
    for (let from = 0; from < bytes.byteLength; from += DIFF_BLOCK_SIZE) {
      yield hash("sha256", bytes.subarray(from, from + DIFF_BLOCK_SIZE), "base64");
    }
  }
}
