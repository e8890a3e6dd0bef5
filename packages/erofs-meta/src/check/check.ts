import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import {
  COMPAT_SB_CHKSUM,
  COMPAT_XATTR_FILTER,
  SUPERBLOCK,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "../format/superblock.ts";
import { viewOf } from "../internal/bytes.ts";
import { checkErofsOptions, parseOptions } from "../options.ts";
import type { ErofsImage } from "../read/image.ts";
import { openErofs } from "../read/image.ts";
import { type Inode, inodeTail, isInMetabox } from "../read/inode.ts";
import { checkDirectory } from "./directories.ts";
import { type ErofsProblem, ProblemList } from "./problems.ts";
import { Regions } from "./regions.ts";
import { checkXattrs } from "./xattrs.ts";

/** How to check an image. */
export interface CheckErofsOptions {
  /** extra devices of the image, as {@link openErofs} takes them; they stay open */
  readonly devices?: readonly BlockSource[] | undefined;
  /** most problems that are listed, {@link DEFAULT_MAX_DAMAGE} */
  readonly maxProblems?: number | undefined;
  /** most names, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  /** most bytes of content, holes excluded, {@link DEFAULT_MAX_EXTRACT_BYTES} */
  readonly maxContentBytes?: number | undefined;
  /** most parts of an image that are compared with each other, {@link DEFAULT_MAX_REGIONS} */
  readonly maxRegions?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** called now and then with how many names were looked at */
  readonly onProgress?: ((event: { readonly names: number; readonly contentBytes: number }) => void) | undefined;
}

/** What {@link checkErofs} found. */
export interface ErofsReport {
  /** nothing is wrong */
  readonly ok: boolean;
  readonly problems: readonly ErofsProblem[];
  /** there are more problems than are listed */
  readonly isIncomplete: boolean;
  /** names that were looked at, the root included */
  readonly names: number;
  /** different nodes that they lead to */
  readonly inodes: number;
  /** length of all contents that were read in `bytes`, holes excluded */
  readonly contentBytes: number;
}

const MAX_TARGET_BYTES = 4095n;
const MAX_NSEC = 999_999_999;
/** Names between two calls of `onProgress`. */
const PROGRESS_STEP = 256;

/**
 * Checks an image: the superblock with its checksum, every inode, the order and targets of names, counts of links,
 * extended attributes, that contents lie inside the image and not upon each other, and that all of them can be read and
 * decompressed. Damage does not stop the search elsewhere.
 *
 * @param source - The image. Not closed.
 * @param options - See {@link CheckErofsOptions}.
 * @returns What is wrong, and where.
 * @throws {ErofsError} `EROFS_BAD_OPTIONS`, `EROFS_IO` when the source cannot be read, `EROFS_LIMIT` for more names or
 *   content than allowed. An abort throws the signal's reason.
 * @example
 * const { ok, problems } = await checkErofs(await fileSource("usr.erofs"));
 */
export async function checkErofs(source: BlockSource, options: CheckErofsOptions = {}): Promise<ErofsReport> {
  const settings = parseOptions(checkErofsOptions, options);
  const problems = new ProblemList(settings.maxProblems);
  const { devices } = settings;
  const image = await openDamaged(source, devices, problems);
  const check = new Check(problems, settings);
  if (image !== undefined) await check.run(image);
  const { names, inodes, contentBytes } = check;
  const { found, isIncomplete } = problems;
  return { ok: found.length === 0, problems: found, isIncomplete, names, inodes, contentBytes };
}

/** Opens an image although its checksum may be wrong. */
async function openDamaged(
  source: BlockSource,
  devices: readonly BlockSource[] | undefined,
  problems: ProblemList,
): Promise<ErofsImage | undefined> {
  try {
    return await openErofs(source, { devices });
  } catch (error) {
    problems.addError(error);
    if (!(error instanceof ErofsError) || error.code !== "EROFS_BAD_CHECKSUM") return undefined;
  }
  try {
    return await openErofs(withoutChecksum(source), { devices });
  } catch (error) {
    problems.addError(error);
    return undefined;
  }
}

/** The same image, which does not say any more that it has a checksum. */
function withoutChecksum(source: BlockSource): BlockSource {
  const at = SUPERBLOCK_OFFSET + SUPERBLOCK.featureCompat;
  return {
    sizeBytes: source.sizeBytes,
    async read(offset, length) {
      const bytes = await source.read(offset, length);
      if (offset > at || offset + length < at + 4) return bytes;
      const copy = Uint8Array.from(bytes);
      const view = viewOf(copy);
      view.setUint32(at - offset, view.getUint32(at - offset, true) & ~COMPAT_SB_CHKSUM, true);
      return copy;
    },
    async close() {},
  };
}

interface Settings {
  readonly maxEntries: number;
  readonly maxContentBytes: number;
  readonly maxRegions: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: CheckErofsOptions["onProgress"];
}

/** What is known of a node that has been looked at. */
interface SeenNode {
  readonly inode: Inode;
  /** first path that led to it */
  readonly path: string;
  /** names of it, or directories in it */
  names: number;
}

interface Waiting {
  readonly path: string;
  readonly nid: bigint;
  readonly parent: bigint;
  /** what the directory says it is */
  readonly type: string;
}

class Check {
  names = 0;
  contentBytes = 0;
  readonly #problems: ProblemList;
  readonly #settings: Settings;
  readonly #regions: Regions;
  readonly #boxRegions: Regions;
  readonly #seen = new Map<bigint, SeenNode>();

  constructor(problems: ProblemList, settings: Settings) {
    this.#problems = problems;
    this.#settings = settings;
    this.#regions = new Regions(settings.maxRegions);
    this.#boxRegions = new Regions(settings.maxRegions);
  }

  get inodes(): number {
    return this.#seen.size;
  }

  async run(image: ErofsImage): Promise<void> {
    const { superblock } = image;
    const { rootNid, packedNid, metaboxNid, blocks, blockSize } = superblock;
    if (blocks * blockSize > image.source.sizeBytes && superblock.extraDevices === 0) {
      const message = `expected an image of ${blocks} blocks of ${blockSize} bytes, got ${image.source.sizeBytes} bytes`;
      this.#problems.add({ code: "EROFS_TRUNCATED", message });
    }
    this.#regions.add(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, "metadata", "the superblock");
    for (const [nid, path] of [
      [packedNid, "the packed inode"],
      [metaboxNid, "the metadata box"],
    ] as const) {
      if (nid === 0n) continue;
      const inode = await this.#problems.try(path, () => image.inode(nid));
      if (inode !== undefined) await this.#content(image, inode, path);
    }
    this.contentBytes = 0;
    const waiting: Waiting[] = [{ path: "/", nid: rootNid, parent: rootNid, type: "directory" }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      this.#settings.signal?.throwIfAborted();
      const below = await this.#node(image, next);
      for (const child of below.toReversed()) waiting.push(child);
    }
    this.#links();
    this.#regions.report(this.#problems);
    this.#boxRegions.report(this.#problems);
    const expected = Number(superblock.inodes);
    // What is not in the tree may be counted or not.
    const hidden = (packedNid === 0n ? 0 : 1) + (metaboxNid === 0n ? 0 : 1);
    const isPlausible = expected >= this.inodes && expected <= this.inodes + hidden;
    if (!isPlausible && this.#problems.found.length === 0) {
      const message = `expected ${superblock.inodes} inodes, got ${this.inodes}`;
      this.#problems.add({ code: "EROFS_CORRUPT", message });
    }
  }

  /** Looks at what a name leads to, and returns the names in it. */
  async #node(image: ErofsImage, { path, nid, parent, type }: Waiting): Promise<Waiting[]> {
    this.names += 1;
    const { maxEntries, onProgress } = this.#settings;
    if (this.names > maxEntries) throw new ErofsError("EROFS_LIMIT", `expected at most ${maxEntries} names`, { path });
    if (this.names % PROGRESS_STEP === 0) onProgress?.({ names: this.names, contentBytes: this.contentBytes });
    const known = this.#seen.get(nid);
    if (known !== undefined) {
      known.names += 1;
      if (known.inode.type === "directory") {
        this.#bad(known.inode, path, `expected each directory once, got the one at ${known.path} again`);
      } else this.#type(known.inode, path, type);
      return [];
    }
    const inode = await this.#problems.try(path, () => image.inode(nid));
    if (inode === undefined) return [];
    const seen = { inode, path, names: 1 };
    this.#seen.set(nid, seen);
    this.#type(inode, path, type);
    if (inode.mtimeNsec > MAX_NSEC) this.#bad(inode, path, `expected nanoseconds, got ${inode.mtimeNsec}`);
    const hasFilter = (image.superblock.rawFeatures.compat & COMPAT_XATTR_FILTER) !== 0;
    await this.#problems.try(path, () => checkXattrs(image, inode, hasFilter, path, this.#problems));
    await this.#content(image, inode, path);
    if (inode.type !== "directory") return [];
    const children = await checkDirectory(image, inode, parent, path, this.#problems);
    seen.names = 2 + children.filter((child) => child.type === "directory").length;
    return children.map((child) => ({
      path: path === "/" ? `/${child.name}` : `${path}/${child.name}`,
      nid: child.nid,
      parent: nid,
      type: child.type,
    }));
  }

  /** Reads content, and remembers which parts of the image it takes. */
  async #content(image: ErofsImage, inode: Inode, path: string): Promise<void> {
    const isInBox = isInMetabox(inode.nid);
    const around = isInBox ? this.#boxRegions : this.#regions;
    around.add(inode.offset, inodeTail(inode) - inode.offset, "metadata", path);
    if (inode.type !== "file" && inode.type !== "directory" && inode.type !== "symlink") return;
    const use = inode.layout === "plain" || inode.layout === "inline" ? "own" : "shared";
    const isRead = await this.#problems.try(path, async () => {
      for await (const { position, boxPosition, device, stored, length } of image.extents(inode)) {
        const size = stored?.length ?? length;
        if (boxPosition !== undefined) this.#boxRegions.add(boxPosition, size, use, path);
        else if (position !== undefined && device === undefined) this.#regions.add(position, size, use, path);
      }
      return true;
    });
    // A directory is read when its names are.
    if (isRead !== true || inode.type === "directory") return;
    await this.#problems.try(path, async () => {
      if (inode.type === "symlink") {
        if (inode.sizeBytes === 0n || inode.sizeBytes > MAX_TARGET_BYTES) {
          this.#bad(inode, path, `expected a target of 1..${MAX_TARGET_BYTES} bytes, got ${inode.sizeBytes}`);
          return;
        }
        const target = await image.readFile(inode);
        if (target.includes(0)) this.#bad(inode, path, "expected a target without NUL, got one with it");
        return;
      }
      const { maxContentBytes, signal } = this.#settings;
      for await (const { bytes } of image.data(inode)) {
        signal?.throwIfAborted();
        this.contentBytes += bytes.byteLength;
        if (this.contentBytes <= maxContentBytes) continue;
        throw new ErofsError("EROFS_LIMIT", `expected at most ${maxContentBytes} bytes of content, got more`, { path });
      }
    });
  }

  #type(inode: Inode, path: string, type: string): void {
    if (type === "unknown" || type === inode.type) return;
    this.#bad(inode, path, `expected a ${type}, as its directory says, got a ${inode.type}`);
  }

  /** Compares what inodes say of their links with what was found; a directory that says 1 does not count. */
  #links(): void {
    for (const { inode, path, names } of this.#seen.values()) {
      const { links, type } = inode;
      if (links === names || (type === "directory" && links === 1)) continue;
      this.#bad(inode, path, `expected ${links} links, as its inode says, got ${names}`);
    }
  }

  #bad({ offset }: Inode, path: string, message: string): void {
    this.#problems.add({ code: "EROFS_CORRUPT", message, offset, path });
  }
}
