import { ErofsError } from "../errors.ts";
import { CHUNK_BLOCK_BITS_MASK, CHUNK_HAS_INDEXES, CHUNK_INDEX_SIZE, CHUNK_MAP_ENTRY_SIZE } from "../format/inode.ts";
import { XATTR_UNIT } from "../format/xattr.ts";
import { safeNumber } from "../internal/bytes.ts";
import { finish, type Steps } from "../internal/steps.ts";
import { DEFAULT_MAX_OLD_EXTENTS } from "../options.ts";
import { indexesEnd, storedExtentsOf } from "../read/compressed-map.ts";
import { extentsOf, type ImageParts } from "../read/content.ts";
import { type ErofsImage, partsOf } from "../read/image.ts";
import { type Inode, inodeTail, isInMetabox } from "../read/inode.ts";
import { hasSharedXattrsInBox, sharedEntry, xattrArea } from "../read/xattr.ts";
import type { Run } from "./block-space.ts";
import { encodedText } from "./xattrs.ts";

/** Most of a shared xattr area that is remembered, in `bytes`. */
const MAX_SHARED_BYTES = 16 * 1024 * 1024;

/** Where a content was. */
export interface OldContent {
  readonly runs: readonly Run[];
  /** parts of it were nowhere, being zeros */
  readonly isSparse: boolean;
}

/** Where an inode was. */
export interface OldInode {
  /** position from the start of the inode area in `bytes`; none where nothing of this image can be */
  readonly offset: number | undefined;
  /** its number for 32-bit stat */
  readonly ino: number;
  /** all of its content was in blocks */
  readonly isPlain: boolean;
}

interface OldNode extends OldInode {
  offset: number | undefined;
  runs: Run[];
  readonly isSparse: boolean;
  hasContent: boolean;
  hasInode: boolean;
}

/**
 * Where everything was in an older image. These are wishes: what is not true or contradicts itself there makes for
 * other places, and for nothing else.
 */
export class OldPlaces {
  /** start of the inode area in `blocks` */
  readonly metaBlock: number;
  /** blocks with inodes, in order */
  readonly inodeRuns: readonly Run[];
  /** where the shared xattrs were */
  readonly sharedRuns: readonly Run[];
  /** positions of shared xattrs in units of 4 bytes, by what {@link encodedText} says of them */
  readonly sharedXattrs: ReadonlyMap<string, number>;
  /** blocks between everything else, in order */
  readonly holes: readonly Run[];
  /** behind the last block that anything was in */
  readonly end: number;
  readonly #nodes: ReadonlyMap<string, OldNode>;

  /** @param firstBlock - the first block that anything may be in */
  constructor(
    { metaBlock, nodes, slots, sharedXattrs, sharedRun, blocks }: Gathered,
    paths: ReadonlyMap<string, OldNode>,
    firstBlock: number,
  ) {
    this.metaBlock = metaBlock;
    this.#nodes = paths;
    this.sharedXattrs = sharedXattrs;
    for (const { node, run } of slots) if (run.block < firstBlock) node.offset = undefined;
    this.inodeRuns = joined(slots.map(({ run }) => run).filter(({ block }) => block >= firstBlock));
    const shared = { runs: sharedRun === undefined ? [] : [sharedRun] };
    const owners = [shared, ...nodes];
    keepApart(owners, this.inodeRuns, firstBlock, blocks);
    this.sharedRuns = shared.runs;
    const holes: Run[] = [];
    let end = firstBlock;
    for (const { block, count } of joined([...this.inodeRuns, ...owners.flatMap(({ runs }) => runs)])) {
      if (block > end) holes.push({ block: end, count: block - end });
      end = block + count;
    }
    this.holes = holes;
    this.end = end;
  }

  /** Where the content of this path was, once. */
  takeContent(path: string): OldContent | undefined {
    const node = this.#nodes.get(path);
    if (node === undefined || !node.hasContent) return undefined;
    node.hasContent = false;
    return node;
  }

  /** Where the inode of this path was, once. */
  takeInode(path: string): OldInode | undefined {
    const node = this.#nodes.get(path);
    if (node === undefined || !node.hasInode) return undefined;
    node.hasInode = false;
    return node;
  }
}

/** What was found in an image. */
interface Gathered {
  readonly metaBlock: number;
  readonly nodes: readonly OldNode[];
  /** blocks with inodes and what lies behind those */
  readonly slots: readonly { readonly node: OldNode; readonly run: Run }[];
  readonly sharedXattrs: ReadonlyMap<string, number>;
  readonly sharedRun: Run | undefined;
  /** length of the image */
  readonly blocks: number;
}

/**
 * Reads where everything is in an image.
 *
 * @throws {ErofsError} What reading it throws; `EROFS_LIMIT` for more names or extents than allowed.
 */
export async function readOldPlaces(
  image: ErofsImage,
  firstBlock: number,
  limits: { readonly maxEntries: number; readonly signal?: AbortSignal | undefined },
): Promise<OldPlaces> {
  const parts = partsOf(image);
  const reader = new OldPlacesReader(parts);
  const paths = new Map<string, OldNode>();
  const seen = new Map<bigint, OldNode>();
  for await (const { path, inode } of image.walk({ maxEntries: limits.maxEntries, signal: limits.signal })) {
    const node = seen.get(inode.nid) ?? (await finish(reader.node(inode)));
    seen.set(inode.nid, node);
    paths.set(path, node);
  }
  return new OldPlaces({ ...reader.gathered(), nodes: [...seen.values()] }, paths, firstBlock);
}

class OldPlacesReader {
  readonly #image: ImageParts;
  readonly #blockSize: number;
  readonly #slots: { node: OldNode; run: Run }[] = [];
  readonly #sharedXattrs = new Map<string, number>();
  readonly #sharedIds = new Set<number>();
  readonly #hasShared: boolean;
  #sharedBytes = 0;
  #sharedEnd = 0;
  #extents = 0;

  constructor(image: ImageParts) {
    this.#image = image;
    this.#blockSize = image.superblock.blockSize;
    this.#hasShared = !hasSharedXattrsInBox(image);
  }

  gathered(): Omit<Gathered, "nodes"> {
    const { metaBlock, xattrBlock } = this.#image.superblock;
    const count = Math.ceil(this.#sharedEnd / this.#blockSize);
    return {
      metaBlock,
      slots: this.#slots,
      sharedXattrs: this.#sharedXattrs,
      sharedRun: count === 0 ? undefined : { block: xattrBlock, count },
      blocks: Math.floor(this.#image.source.sizeBytes / this.#blockSize),
    };
  }

  /** Finds out where a node is. */
  *node(inode: Inode): Steps<OldNode> {
    const { nid, ino, layout } = inode;
    const isInImage = !isInMetabox(nid);
    const { runs, isSparse } = yield* this.#content(inode);
    const offset = isInImage ? inode.offset - this.#image.superblock.metaBlock * this.#blockSize : undefined;
    const node = { offset, ino, isPlain: layout === "plain", runs, isSparse, hasContent: true, hasInode: true };
    if (isInImage) {
      const end = Math.min(yield* this.#end(inode), this.#image.source.sizeBytes);
      this.#slots.push({ node, run: this.#blocks(inode.offset, Math.max(end, inodeTail(inode))) });
    }
    if (inode.xattrSizeBytes > 0 && this.#hasShared) yield* this.#xattrs(inode);
    return node;
  }

  #blocks(start: number, end: number): Run {
    const block = Math.floor(start / this.#blockSize);
    return { block, count: Math.ceil(end / this.#blockSize) - block };
  }

  /** Behind an inode and everything that lies behind it. */
  *#end(inode: Inode): Steps<number> {
    const tail = inodeTail(inode);
    switch (inode.layout) {
      case "plain":
        return tail;
      case "inline":
        return tail + Number(inode.sizeBytes % BigInt(this.#blockSize));
      case "chunk": {
        const chunkSize = this.#blockSize * 2 ** (inode.rawData & CHUNK_BLOCK_BITS_MASK);
        const entrySize = (inode.rawData & CHUNK_HAS_INDEXES) === 0 ? CHUNK_MAP_ENTRY_SIZE : CHUNK_INDEX_SIZE;
        return Math.ceil(tail / entrySize) * entrySize + Math.ceil(Number(inode.sizeBytes) / chunkSize) * entrySize;
      }
      default:
        return yield* indexesEnd(this.#image, inode);
    }
  }

  *#content(inode: Inode): Steps<{ runs: Run[]; isSparse: boolean }> {
    const runs: Run[] = [];
    let isSparse = false;
    const add = (start: number, length: number): void => {
      const last = runs.at(-1);
      const run = this.#blocks(start, start + length);
      if (last?.block !== undefined && last.block + last.count === run.block) {
        runs[runs.length - 1] = { block: last.block, count: last.count + run.count };
      } else runs.push(run);
    };
    if (inode.type !== "file" && inode.type !== "directory" && inode.type !== "symlink") return { runs, isSparse };
    const size = safeNumber(inode.sizeBytes, "a content size", inode.offset);
    switch (inode.layout) {
      case "plain":
      case "inline": {
        const inBlocks = inode.layout === "inline" ? size - (size % this.#blockSize) : size;
        if (inBlocks > 0) add(inode.rawData * this.#blockSize, inBlocks);
        break;
      }
      case "chunk":
        for (const extent of extentsOf(this.#image, inode)) {
          if (extent instanceof Promise) {
            yield extent;
            continue;
          }
          this.#count(1, inode);
          const { position, device, length } = extent;
          if (position === undefined) isSparse = true;
          else if (device === undefined) add(position, length);
        }
        break;
      default:
        for (const batch of storedExtentsOf(this.#image, inode)) {
          if (batch instanceof Promise) {
            yield batch;
            continue;
          }
          this.#count(batch.length, inode);
          for (const { where, position, storedLength } of batch) if (where === "image") add(position, storedLength);
        }
    }
    return { runs, isSparse };
  }

  #count(extents: number, { offset }: Inode): void {
    this.#extents += extents;
    if (this.#extents <= DEFAULT_MAX_OLD_EXTENTS) return;
    const message = `expected an older image of at most ${DEFAULT_MAX_OLD_EXTENTS} extents, got more`;
    throw new ErofsError("EROFS_LIMIT", message, { offset });
  }

  *#xattrs(inode: Inode): Steps<void> {
    const { shared } = yield* xattrArea(this.#image, inode);
    for (const id of shared) {
      if (this.#sharedIds.has(id) || this.#sharedBytes > MAX_SHARED_BYTES) continue;
      const { bytes } = yield* sharedEntry(this.#image, id);
      const end = id * XATTR_UNIT + bytes.byteLength;
      if (end > MAX_SHARED_BYTES) continue;
      this.#sharedIds.add(id);
      this.#sharedBytes += bytes.byteLength;
      this.#sharedEnd = Math.max(this.#sharedEnd, end);
      this.#sharedXattrs.set(encodedText(bytes), id);
    }
  }
}

/** Runs in order, neighbours and those that overlap as one. */
function joined(runs: readonly Run[]): Run[] {
  const all: Run[] = [];
  for (const { block, count } of runs.toSorted((a, b) => a.block - b.block)) {
    const last = all.at(-1);
    const end = last === undefined ? 0 : last.block + last.count;
    if (last === undefined || block > end) all.push({ block, count });
    else all[all.length - 1] = { block: last.block, count: Math.max(end, block + count) - last.block };
  }
  return all;
}

/** Leaves out runs that are not in the image, or upon inodes or upon each other. */
function keepApart(
  owners: readonly { runs: Run[] }[],
  inodeRuns: readonly Run[],
  firstBlock: number,
  blocks: number,
): void {
  const all = owners.flatMap((owner) => owner.runs.map((run) => ({ owner, run })));
  for (const owner of owners) owner.runs = [];
  const sorted = all.toSorted((a, b) => a.run.block - b.run.block);
  let end = firstBlock;
  let next = 0;
  const kept = new Set<Run>();
  for (const { run } of sorted) {
    const behind = run.block + run.count;
    for (let inodes = inodeRuns[next]; inodes !== undefined; inodes = inodeRuns[next]) {
      if (inodes.block + inodes.count > run.block) break;
      next += 1;
    }
    const isUponInodes = (inodeRuns[next]?.block ?? Number.POSITIVE_INFINITY) < behind;
    if (run.block < end || behind > blocks || isUponInodes) continue;
    kept.add(run);
    end = behind;
  }
  // Each content keeps the order of its parts.
  for (const { owner, run } of all) if (kept.has(run)) owner.runs.push(run);
}
