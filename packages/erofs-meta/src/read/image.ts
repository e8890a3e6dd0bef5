import type { BlockSource } from "../block-source.ts";
import { Lz4Decoder } from "../codecs/lz4-wasm.ts";
import { ErofsError } from "../errors.ts";
import { MAX_BLOCK_SIZE_BITS, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from "../format/superblock.ts";
import { safeNumber } from "../internal/bytes.ts";
import { nameText } from "../internal/names.js";
import { finish, type Steps, streamed } from "../internal/steps.ts";
import { DEFAULT_MAX_FILE_BYTES, DEFAULT_MAX_SYMLINKS, type WalkOptions } from "../options.ts";
import { PackedContent } from "./compressed.ts";
import { contentOf, type DataPiece, dataOf, type Extent, extentsOf, type ImageParts } from "./content.ts";
import { type Devices, readDevices } from "./devices.ts";
import type { DirectoryEntry } from "./directory.ts";
import { childOf } from "./directory-reader.ts";
import { type Inode, inodeSteps } from "./inode.ts";
import { Metabox } from "./metabox.ts";
import { MetadataCache } from "./metadata-cache.ts";
import { Pace } from "./pace.ts";
import type { ContentReader } from "./read-ahead.ts";
import { decodeSuperblock, type Superblock } from "./superblock.ts";
import { assertDirectory, entriesOf, type WalkEntry, walkFrom } from "./walk.ts";
import { readLongPrefixes, type Xattr, xattrsOf } from "./xattr.ts";

/** Longest symbolic link target, as Linux has it. */
const MAX_LINK_BYTES = 4096;

/** What content is read, and how. */
export interface ContentOptions {
  /** first byte, 0 unless given */
  readonly start?: number | undefined;
  /** behind the last byte, the end of the content unless given */
  readonly end?: number | undefined;
  /**
   * a piece is valid until anything else is read from the image or it is closed, because its memory is used again; false
   * unless given, when pieces are yours to keep
   */
  readonly reuse?: boolean | undefined;
}

/** What is behind an image. A class, so that all of them have one shape: code for several is slow code. */
class Parts implements ImageParts {
  readonly source: BlockSource;
  readonly superblock: Superblock;
  readonly devices: Devices;
  readonly content: ContentReader;
  readonly metadata: MetadataCache;
  readonly metabox: Metabox;
  readonly pace: Pace = new Pace();
  readonly lz4: Lz4Decoder = new Lz4Decoder();
  #packed: PackedContent | undefined;

  constructor(source: BlockSource, superblock: Superblock, devices: Devices) {
    this.source = source;
    this.superblock = superblock;
    this.devices = devices;
    this.content = devices.reader(0);
    this.metadata = new MetadataCache(source, this.content);
    this.metabox = new Metabox(this);
  }

  *packed(): Steps<PackedContent> {
    this.#packed ??= yield* openPacked(this);
    return this.#packed;
  }
}

/** What is behind an image, for other parts of this package. */
export let partsOf: (image: ErofsImage) => ImageParts;

/**
 * An EROFS image opened for reading. Every method reads through the source it was opened on; nothing is held besides a
 * bounded cache of metadata.
 *
 * @throws {ErofsError} All methods: `EROFS_TRUNCATED`, `EROFS_CORRUPT` and `EROFS_UNSUPPORTED` for what the image says,
 *   and whatever the source throws.
 */
export class ErofsImage {
  readonly superblock: Superblock;
  readonly #parts: ImageParts;
  #longPrefixes: readonly string[] | undefined;

  static {
    partsOf = (image) => image.#parts;
  }

  /** Use {@link openErofs}. */
  constructor(source: BlockSource, superblock: Superblock, devices: Devices) {
    this.superblock = superblock;
    this.#parts = new Parts(source, superblock, devices);
  }

  /** Where the image is; closed with it. */
  get source(): BlockSource {
    return this.#parts.source;
  }

  /** Reads the inode with the node number `nid`. */
  async inode(nid: bigint): Promise<Inode> {
    return finish(inodeSteps(this.#parts, nid));
  }

  /** Reads the root directory's inode. */
  async root(): Promise<Inode> {
    const root = await this.inode(this.superblock.rootNid);
    assertDirectory(root);
    return root;
  }

  /** Streams a directory's entries in stored order, `.` and `..` included. */
  entries(directory: Inode): AsyncGenerator<DirectoryEntry> {
    return streamed(entriesOf(this.#parts, directory));
  }

  /**
   * Finds a path. Links in the middle of it are followed, as is one at its end unless `followLast` is false; links are
   * resolved inside the image and cannot leave it.
   *
   * @throws {ErofsError} `EROFS_NOT_FOUND`, `EROFS_WRONG_TYPE` when a component is not a directory, `EROFS_LIMIT` for
   *   more than 40 links.
   */
  async lookup(path: string, options: { readonly followLast?: boolean } = {}): Promise<Inode> {
    const { followLast = true } = options;
    const todo = path.split("/").reverse();
    const above: Inode[] = [await this.root()];
    let links = 0;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      const here = above.at(-1);
      if (here === undefined) throw new Error("bug: lookup lost the root directory");
      if (name === "" || name === ".") continue;
      if (here.type !== "directory")
        throw new ErofsError("EROFS_WRONG_TYPE", `expected a directory above ${name}`, { path });
      if (name === "..") {
        if (above.length > 1) above.pop();
        continue;
      }
      const found = await this.#child(here, name, path);
      const isLast = todo.every((rest) => rest === "" || rest === ".");
      if (found.type !== "symlink" || (isLast && !followLast)) {
        above.push(found);
        continue;
      }
      links += 1;
      if (links > DEFAULT_MAX_SYMLINKS) {
        throw new ErofsError("EROFS_LIMIT", `expected at most ${DEFAULT_MAX_SYMLINKS} symbolic links`, { path });
      }
      const target = await this.readLink(found);
      if (target.startsWith("/")) above.length = 1;
      todo.push(...target.split("/").reverse());
    }
    const result = above.at(-1);
    if (result === undefined) throw new Error("bug: lookup lost the root directory");
    return result;
  }

  /** Reads a symbolic link's target; bytes that are no part of UTF-8 are as in names. */
  async readLink(inode: Inode): Promise<string> {
    if (inode.type !== "symlink") {
      throw new ErofsError("EROFS_WRONG_TYPE", `expected a symlink, got a ${inode.type}`, { offset: inode.offset });
    }
    return nameText(await this.readFile(inode, { maxBytes: MAX_LINK_BYTES }));
  }

  /**
   * Streams content in pieces of at most 12 MiB, usually 1 MiB; holes come as zeros.
   *
   * @param inode - Any inode; directories give their raw blocks.
   * @param range - Part of the content; all of it when left out.
   */
  content(inode: Inode, range: ContentOptions = {}): AsyncGenerator<Uint8Array> {
    const size = safeNumber(inode.sizeBytes, "a content size", inode.offset);
    const { start = 0, end = size, reuse } = range;
    return streamed(contentOf(this.#parts, inode, { start, end: Math.min(end, size), reuse }));
  }

  /**
   * Streams content without its holes, each piece with its position; what is in no piece reads as zeros.
   *
   * @param options - `reuse` as for {@link ErofsImage.content}.
   */
  data(inode: Inode, options: Pick<ContentOptions, "reuse"> = {}): AsyncGenerator<DataPiece> {
    return streamed(dataOf(this.#parts, inode, options.reuse === true));
  }

  /** Streams where content lies in the image, in order, holes included. */
  extents(inode: Inode): AsyncGenerator<Extent> {
    return streamed(extentsOf(this.#parts, inode));
  }

  /**
   * Reads content into memory.
   *
   * @throws {ErofsError} `EROFS_LIMIT` when it is longer than `maxBytes`, 1 GiB unless given.
   */
  async readFile(inode: Inode, options: { readonly maxBytes?: number } = {}): Promise<Uint8Array> {
    const { maxBytes = DEFAULT_MAX_FILE_BYTES } = options;
    if (inode.sizeBytes > BigInt(maxBytes)) {
      throw new ErofsError("EROFS_LIMIT", `expected at most ${maxBytes} bytes, got ${inode.sizeBytes}`, {
        offset: inode.offset,
      });
    }
    return finish(wholeContent(this.#parts, inode));
  }

  /** Lists extended attributes, inline ones first. */
  async xattrs(inode: Inode): Promise<Xattr[]> {
    return finish(xattrsOf(this.#parts, inode, () => this.#xattrPrefixes()));
  }

  /**
   * Walks the tree depth first, parents before children, in stored order.
   *
   * @param options - Limits, and `from`: the directory to start at, `/` unless given.
   * @throws {ErofsError} Also `EROFS_LIMIT`, and `EROFS_CORRUPT` for a directory that appears twice.
   * @example
   * for await (const { path, inode } of image.walk()) console.log(path, inode.sizeBytes);
   */
  walk(options: WalkOptions & { readonly from?: string | undefined } = {}): AsyncGenerator<WalkEntry> {
    const { from = "/", ...limits } = options;
    const path = `/${from.split("/").filter(Boolean).join("/")}`;
    return streamed(walkFrom(this.#parts, { path, find: () => this.lookup(from) }, limits));
  }

  /** Closes the source the image was opened on. */
  async close(): Promise<void> {
    this.#parts.lz4.release();
    await this.#parts.source.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #child(directory: Inode, name: string, path: string): Promise<Inode> {
    const nid = await finish(childOf(this.#parts, directory, name));
    if (nid !== undefined) return this.inode(nid);
    throw new ErofsError("EROFS_NOT_FOUND", `expected ${name} in the image, got no such name`, { path });
  }

  *#xattrPrefixes(): Steps<readonly string[]> {
    this.#longPrefixes ??= yield* readLongPrefixes(this.#parts);
    return this.#longPrefixes;
  }
}

function* wholeContent(image: ImageParts, inode: Inode): Steps<Uint8Array> {
  const end = Number(inode.sizeBytes);
  let bytes: Uint8Array | undefined;
  let at = 0;
  for (const piece of contentOf(image, inode, { start: 0, end })) {
    if (piece instanceof Promise) {
      yield piece;
      continue;
    }
    if (piece.byteLength === end) return piece;
    bytes ??= new Uint8Array(end);
    bytes.set(piece, at);
    at += piece.byteLength;
  }
  return bytes ?? new Uint8Array(0);
}

function* openPacked(image: ImageParts): Steps<PackedContent> {
  const { packedNid } = image.superblock;
  if (packedNid === 0n) {
    throw new ErofsError("EROFS_CORRUPT", "expected a packed inode for a fragment, got an image without one");
  }
  const inode = yield* inodeSteps(image, packedNid);
  return new PackedContent(image, inode, () => extentsOf(image, inode));
}

/**
 * Opens an EROFS image.
 *
 * @param source - Where the image is; closed with the image.
 * @param options - `devices`: where the extra devices of the image are, in their order, which stay open. An image that
 *   has them behind itself in one file needs none.
 * @returns The image, its superblock decoded and its checksum verified.
 * @throws {ErofsError} As {@link decodeSuperblock}; the source is left open then.
 * @example
 * await using image = await openErofs(await fileSource("usr.erofs"));
 * const release = await image.readFile(await image.lookup("/lib/os-release"));
 */
export async function openErofs(
  source: BlockSource,
  options: { readonly devices?: readonly BlockSource[] | undefined } = {},
): Promise<ErofsImage> {
  const most = Math.max(2 ** MAX_BLOCK_SIZE_BITS, SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE);
  const head = await source.read(0, Math.min(most, source.sizeBytes));
  const superblock = decodeSuperblock(head);
  return new ErofsImage(source, superblock, await readDevices(source, superblock, options.devices ?? []));
}
