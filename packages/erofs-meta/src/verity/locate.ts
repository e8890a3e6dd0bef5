import { ErofsError } from "../errors.ts";
import { CHUNK_BLOCK_BITS_MASK, CHUNK_HAS_INDEXES, CHUNK_INDEX_SIZE, CHUNK_MAP_ENTRY_SIZE } from "../format/inode.ts";
import { DEFAULT_MAX_DEPTH, DEFAULT_MAX_ENTRIES } from "../options.ts";
import type { Extent } from "../read/content.ts";
import type { ErofsImage } from "../read/image.ts";
import { type Inode, inodeTail, isInMetabox } from "../read/inode.ts";

/** Map header, and the space in front of full indexes. */
const COMPRESSED_HEADER_SIZE = 16;
const FULL_INDEX_SIZE = 8;
/** The larger of the two sizes of compact indexes. */
const COMPACT_INDEX_SIZE = 4;

/** A part of an image or of a content. */
export interface ByteRange {
  /** first byte */
  readonly offset: number;
  /** length in `bytes` */
  readonly length: number;
}

/** A file that damage touches. */
export interface DamagedFile {
  /** absolute path inside the image */
  readonly path: string;
  /** its inode, its extended attributes or the map of its content, or the names of a directory */
  readonly isMetadata: boolean;
  /** parts of its content, in the order of the content */
  readonly content: readonly ByteRange[];
}

/** What {@link locateDamage} found. */
export interface LocatedDamage {
  /** files in the order of a walk; none when only unused space is touched */
  readonly files: readonly DamagedFile[];
  /** paths below which nobody can look any more, because what leads there is itself unreadable */
  readonly unreadable: readonly string[];
}

/** How far {@link locateDamage} looks. */
export interface LocateOptions {
  /** most names looked at, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Names the files that damaged parts of an image belong to, such as the blocks that `verifyVerityTree` reports. Damage
 * that hides a part of the tree does not stop the search elsewhere.
 *
 * @param image - The damaged image. Not closed.
 * @param ranges - Damaged parts of it, in any order.
 * @param options - See {@link LocateOptions}.
 * @returns Files, and what could not be looked into.
 * @throws {ErofsError} `EROFS_LIMIT`; and what reading the root's inode throws. An abort throws the signal's reason.
 * @example
 * const { files } = await locateDamage(image, [{ offset: 8192, length: 4096 }]);
 */
export async function locateDamage(
  image: ErofsImage,
  ranges: readonly ByteRange[],
  options: LocateOptions = {},
): Promise<LocatedDamage> {
  const { maxEntries = DEFAULT_MAX_ENTRIES, signal } = options;
  const damage = new Ranges(ranges);
  const { packedNid, metaboxNid } = image.superblock;
  const box = await damageInside(image, metaboxNid, damage);
  const packed = await damageInside(image, packedNid, damage);
  const spaces = { damage, packed, box };
  const files: DamagedFile[] = [];
  const unreadable: string[] = [];
  const seen = new Set<bigint>();
  const waiting: { path: string; depth: number; nid: bigint }[] = [
    { path: "/", depth: 0, nid: image.superblock.rootNid },
  ];
  let entries = 0;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    signal?.throwIfAborted();
    const { path, depth, nid } = next;
    const inode = await readable(() => image.inode(nid));
    if (inode === undefined) {
      unreadable.push(path);
      continue;
    }
    const content = await readable(() => damagedContent(image, inode, spaces));
    const isDirectory = inode.type === "directory";
    const around = isInMetabox(inode.nid) ? box : damage;
    const isMetadata = around.touches(inode.offset, metadataEnd(inode, image.superblock.blockSize) - inode.offset);
    if (isMetadata || (content?.length ?? 0) > 0) {
      // What a directory holds are names.
      files.push({ path, isMetadata: isMetadata || isDirectory, content: isDirectory ? [] : (content ?? []) });
    }
    if (content === undefined) unreadable.push(path);
    if (!isDirectory || seen.has(nid)) continue;
    seen.add(nid);
    if (depth >= DEFAULT_MAX_DEPTH)
      throw new ErofsError("EROFS_LIMIT", `expected at most ${DEFAULT_MAX_DEPTH} directories deep`);
    const children = await readable(() => childrenOf(image, inode));
    if (children === undefined) unreadable.push(path);
    for (const { name, nid: child } of (children ?? []).toReversed()) {
      entries += 1;
      if (entries > maxEntries) throw new ErofsError("EROFS_LIMIT", `expected at most ${maxEntries} names`);
      waiting.push({ path: `${path === "/" ? "" : path}/${name}`, depth: depth + 1, nid: child });
    }
  }
  return { files, unreadable: [...new Set(unreadable)] };
}

/** Damaged parts, sorted and joined. */
class Ranges {
  readonly #sorted: ByteRange[] = [];

  constructor(ranges: readonly ByteRange[]) {
    for (const range of ranges.toSorted((a, b) => a.offset - b.offset)) {
      const last = this.#sorted.at(-1);
      if (last === undefined || last.offset + last.length < range.offset) this.#sorted.push(range);
      else {
        const end = Math.max(last.offset + last.length, range.offset + range.length);
        this.#sorted[this.#sorted.length - 1] = { offset: last.offset, length: end - last.offset };
      }
    }
  }

  touches(offset: number, length: number): boolean {
    return this.within(offset, length).length > 0;
  }

  /** The parts of a range that are damaged. */
  within(offset: number, length: number): ByteRange[] {
    const found: ByteRange[] = [];
    for (let index = this.#firstEndingAfter(offset); index < this.#sorted.length; index += 1) {
      const range = this.#sorted[index];
      if (range === undefined || range.offset >= offset + length) break;
      const start = Math.max(offset, range.offset);
      const end = Math.min(offset + length, range.offset + range.length);
      if (end > start) found.push({ offset: start, length: end - start });
    }
    return found;
  }

  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const range = this.#sorted[middle];
      if (range !== undefined && range.offset + range.length > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Damaged parts of everything that content can be in. */
interface Spaces {
  readonly damage: Ranges;
  /** of the packed inode's content */
  readonly packed: Ranges;
  /** of the metadata box */
  readonly box: Ranges;
}

/** Parts of an inode's content that are damaged, in which ends of files or other inodes lie. */
async function damageInside(image: ErofsImage, nid: bigint, damage: Ranges): Promise<Ranges> {
  const none = new Ranges([]);
  if (nid === 0n) return none;
  const spaces = { damage, packed: none, box: none };
  return new Ranges((await readable(async () => damagedContent(image, await image.inode(nid), spaces))) ?? []);
}

async function damagedContent(image: ErofsImage, inode: Inode, spaces: Spaces): Promise<ByteRange[]> {
  const found: ByteRange[] = [];
  if (inode.type !== "file" && inode.type !== "directory" && inode.type !== "symlink") return found;
  for await (const extent of image.extents(inode)) found.push(...damagedParts(extent, spaces));
  return found;
}

function damagedParts(
  { start, length, position, stored, packedPosition, boxPosition }: Extent,
  { damage, packed, box }: Spaces,
): ByteRange[] {
  const around = boxPosition === undefined ? damage : box;
  const place = boxPosition ?? position;
  // One wrong byte of what was compressed together may change all of it.
  if (place !== undefined && stored !== undefined) {
    return around.touches(place, stored.length) ? [{ offset: start, length }] : [];
  }
  const [parts, origin] = place === undefined ? [packed, packedPosition] : [around, place];
  if (origin === undefined) return [];
  return parts.within(origin, length).map((part) => ({ offset: part.offset - origin + start, length: part.length }));
}

/** Where an inode ends, with its attributes and at most as much of a map as its content can have. */
function metadataEnd(inode: Inode, blockSize: number): number {
  const end = inodeTail(inode);
  const blocks = Math.ceil(Number(inode.sizeBytes) / blockSize);
  switch (inode.layout) {
    case "chunk": {
      const chunks = Math.ceil(blocks / 2 ** (inode.rawData & CHUNK_BLOCK_BITS_MASK));
      return end + chunks * ((inode.rawData & CHUNK_HAS_INDEXES) === 0 ? CHUNK_MAP_ENTRY_SIZE : CHUNK_INDEX_SIZE);
    }
    case "compressed-full":
      return end + COMPRESSED_HEADER_SIZE + blocks * FULL_INDEX_SIZE;
    case "compressed-compact":
      return end + COMPRESSED_HEADER_SIZE + blocks * COMPACT_INDEX_SIZE;
    default:
      return end;
  }
}

async function childrenOf(image: ErofsImage, directory: Inode): Promise<{ name: string; nid: bigint }[]> {
  const children: { name: string; nid: bigint }[] = [];
  for await (const { name, nid } of image.entries(directory)) {
    if (name !== "." && name !== "..") children.push({ name, nid });
  }
  return children;
}

/** What the image says, or undefined when that is damaged too. */
async function readable<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof ErofsError && error.code !== "EROFS_IO") return undefined;
    throw error;
  }
}
