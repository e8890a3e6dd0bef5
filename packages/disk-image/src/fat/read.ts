import type { BlockSource } from "../block-source.ts";
import { DiskImageError } from "../errors.ts";
import {
  BAD_CLUSTER,
  DIRENT_SIZE,
  END_OF_CHAIN,
  FAT32_MASK,
  FIRST_CLUSTER,
  MAX_DIRECTORY_ENTRIES,
} from "../format/fat.ts";
import { viewOf } from "../internal/bytes.ts";
import { decodeFatBootSector, type FatBootSector } from "./boot-sector.ts";
import { decodeDirectory, decodeLabel, type FatEntry } from "./directory.ts";
import { foldName } from "./names.ts";

/** Most names a walk yields before it gives up. */
export const DEFAULT_MAX_FAT_ENTRIES = 1_000_000;
/** Most directories inside one another. */
export const DEFAULT_MAX_FAT_DEPTH = 128;
/** Most bytes that the directories met on a walk have together. */
export const DEFAULT_MAX_FAT_DIRECTORY_BYTES: number = 128 * 1024 * 1024;
/** Most characters that the paths a walk yields have together, because callers keep them. */
export const DEFAULT_MAX_FAT_PATH_CHARS: number = 64 * 1024 * 1024;
/** Most bytes `readFile` puts into memory. */
export const DEFAULT_MAX_FAT_FILE_BYTES: number = 1024 * 1024 * 1024;

const READ_SIZE = 1024 * 1024;
const TABLE_WINDOW = 64 * 1024;

/** A file or directory met on a walk. */
export interface FatWalkEntry {
  /** path without a leading `/` */
  readonly path: string;
  readonly entry: FatEntry;
}

/** How far {@link FatVolume.walk} goes. */
export interface FatWalkOptions {
  /** names to yield before failing with `DISK_LIMIT`, {@link DEFAULT_MAX_FAT_ENTRIES} */
  readonly maxEntries?: number | undefined;
  /** directories inside one another, {@link DEFAULT_MAX_FAT_DEPTH} */
  readonly maxDepth?: number | undefined;
  /** size of all directories in `bytes`, {@link DEFAULT_MAX_FAT_DIRECTORY_BYTES} */
  readonly maxDirectoryBytes?: number | undefined;
  /** length of all paths in `characters`, {@link DEFAULT_MAX_FAT_PATH_CHARS} */
  readonly maxPathChars?: number | undefined;
  /** aborts the walk, which then throws its reason */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A FAT file system opened for reading.
 *
 * @throws {DiskImageError} All methods: `DISK_CORRUPT` and `DISK_TRUNCATED` for what the file system says, and whatever
 *   the source throws.
 */
export class FatVolume {
  readonly boot: FatBootSector;
  readonly #source: BlockSource;
  /** the part of the FAT read last */
  #window: { readonly start: number; readonly bytes: Uint8Array } | undefined;

  /** Use {@link openFat}. */
  constructor(source: BlockSource, boot: FatBootSector) {
    this.#source = source;
    this.boot = boot;
  }

  /**
   * Lists a directory in stored order, without `.`, `..` and the volume label.
   *
   * @param path - Path with `/`; the root when empty.
   * @throws {DiskImageError} Also `DISK_NOT_FOUND` and `DISK_WRONG_TYPE`.
   */
  async list(path = ""): Promise<FatEntry[]> {
    const entry = await this.lookup(path);
    if (entry?.isDirectory === false)
      throw new DiskImageError("DISK_WRONG_TYPE", `expected a directory, got the file ${path}`, { path });
    return [...(await this.#children(entry))];
  }

  /**
   * Finds a path; case does not matter.
   *
   * @returns The entry, or undefined for the root, which has none.
   * @throws {DiskImageError} Also `DISK_NOT_FOUND`.
   */
  async lookup(path: string): Promise<FatEntry | undefined> {
    let here: FatEntry | undefined;
    for (const name of path.split("/").filter(Boolean)) {
      const isDirectory = here === undefined || here.isDirectory;
      const folded = foldName(name);
      const children = isDirectory ? await this.#children(here) : [];
      here = undefined;
      for (const child of children) {
        if (foldName(child.name) !== folded && foldName(child.shortName) !== folded) continue;
        here = child;
        break;
      }
      if (here === undefined)
        throw new DiskImageError("DISK_NOT_FOUND", `expected ${path} in the file system, got no ${name}`, { path });
    }
    return here;
  }

  /**
   * Walks depth first, parents before children; a cluster that belongs to two directories is an error.
   *
   * @param options - Limits and signal.
   * @throws {DiskImageError} Also `DISK_LIMIT`. An abort throws the signal's reason.
   * @example
   * for await (const { path, entry } of volume.walk({ signal })) console.log(path, entry.sizeBytes);
   */
  async *walk(options: FatWalkOptions = {}): AsyncGenerator<FatWalkEntry> {
    const { maxEntries = DEFAULT_MAX_FAT_ENTRIES, maxDepth = DEFAULT_MAX_FAT_DEPTH } = options;
    const { maxPathChars = DEFAULT_MAX_FAT_PATH_CHARS, signal } = options;
    const claim = this.#claims(options);
    let count = 0;
    let chars = 0;
    const children = (path: string, entry?: FatEntry): Promise<Iterator<FatEntry>> =>
      this.#children(entry, (cluster) => claim(cluster, path));
    // What waits on the way down are bytes and not entries, which would take ten times the room.
    const open = [{ prefix: "", entries: await children("") }];
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      signal?.throwIfAborted();
      const { value: entry } = top.entries.next();
      if (entry === undefined) {
        open.pop();
        continue;
      }
      count += 1;
      const path = top.prefix + entry.name;
      chars += path.length;
      assertWithin(count, maxEntries, "names in the file system", path);
      assertWithin(open.length, maxDepth, "nested directories", path);
      assertWithin(chars, maxPathChars, "characters in all paths", path);
      yield { path, entry };
      if (entry.isDirectory) open.push({ prefix: `${path}/`, entries: await children(path, entry) });
    }
  }

  /** Streams a file's content in pieces of at most 1 MiB; an abort throws the signal's reason. */
  async *content(
    entry: FatEntry,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Uint8Array> {
    const { signal } = options;
    signal?.throwIfAborted();
    let left = entry.sizeBytes;
    if (left === 0) return;
    for await (const { offset, length } of this.#runs(entry.cluster, left, () => signal?.throwIfAborted())) {
      const end = offset + Math.min(length, left);
      left -= end - offset;
      for (let at = offset; at < end; at += READ_SIZE) {
        signal?.throwIfAborted();
        yield await this.#source.read(at, Math.min(READ_SIZE, end - at));
      }
      if (left === 0) return;
    }
    throw new DiskImageError(
      "DISK_CORRUPT",
      `expected ${entry.sizeBytes} bytes of ${entry.name}, got a chain that ends before`,
    );
  }

  /**
   * Reads a file into memory.
   *
   * @param file - Path, or an entry from a list or walk.
   * @throws {DiskImageError} Also `DISK_LIMIT` when it is longer than `maxBytes`, 1 GiB unless given. An abort throws
   *   the signal's reason.
   */
  async readFile(
    file: string | FatEntry,
    options: { readonly maxBytes?: number; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Uint8Array> {
    const { maxBytes = DEFAULT_MAX_FAT_FILE_BYTES } = options;
    const path = typeof file === "string" ? file : file.name;
    const entry = typeof file === "string" ? await this.lookup(file) : file;
    if (entry === undefined || entry.isDirectory) {
      throw new DiskImageError("DISK_WRONG_TYPE", `expected a file, got the directory ${path}`, { path });
    }
    const most = Math.min(maxBytes, this.#source.sizeBytes);
    if (entry.sizeBytes > most) {
      throw new DiskImageError("DISK_LIMIT", `expected at most ${most} bytes, got ${entry.sizeBytes}`, { path });
    }
    const bytes = new Uint8Array(entry.sizeBytes);
    let at = 0;
    for await (const piece of this.content(entry, options)) {
      bytes.set(piece, at);
      at += piece.byteLength;
    }
    return bytes;
  }

  /** Label from the root directory, or the boot sector's when there is no entry for it. */
  async label(): Promise<string> {
    return decodeLabel(await this.#directoryBytes(undefined)) ?? this.boot.label;
  }

  /** Makes a check for every cluster of a walk's directories: unclaimed, and within the limit of bytes. */
  #claims(options: FatWalkOptions): (cluster: number, path: string) => void {
    const { maxDirectoryBytes = DEFAULT_MAX_FAT_DIRECTORY_BYTES, signal } = options;
    const { clusterSize } = this.boot.geometry;
    const claimed = new Set<number>();
    return (cluster, path) => {
      signal?.throwIfAborted();
      if (claimed.has(cluster)) {
        const message = `expected each cluster once in the directories, got cluster ${cluster} again`;
        throw new DiskImageError("DISK_CORRUPT", message, { path });
      }
      claimed.add(cluster);
      assertWithin(claimed.size * clusterSize, maxDirectoryBytes, "bytes in all directories", path);
    };
  }

  async #children(
    directory: FatEntry | undefined,
    onCluster?: (cluster: number) => void,
  ): Promise<Generator<FatEntry, undefined>> {
    const bytes = await this.#directoryBytes(directory, onCluster);
    return withoutDots(decodeDirectory(bytes, directory?.cluster ?? 0));
  }

  async #directoryBytes(directory: FatEntry | undefined, onCluster?: (cluster: number) => void): Promise<Uint8Array> {
    const { geometry, rootCluster } = this.boot;
    if (directory === undefined && geometry.type !== 32) {
      return this.#source.read(geometry.rootOffset, geometry.rootEntries * DIRENT_SIZE);
    }
    const pieces: Uint8Array[] = [];
    const most = MAX_DIRECTORY_ENTRIES * DIRENT_SIZE;
    let length = 0;
    // One cluster more than is allowed shows that the chain goes on.
    const first = directory?.cluster ?? rootCluster;
    for await (const run of this.#runs(first, most + geometry.clusterSize, onCluster)) {
      length += run.length;
      if (length > most) {
        throw new DiskImageError("DISK_LIMIT", `expected directories of at most ${most} bytes, got more`, {
          offset: run.offset,
        });
      }
      pieces.push(await this.#source.read(run.offset, run.length));
    }
    return new Uint8Array(Buffer.concat(pieces));
  }

  /** Follows a chain, joining neighbours, until it ends or has given `wanted` bytes; tells `onCluster` of each one. */
  async *#runs(
    first: number,
    wanted: number,
    onCluster?: (cluster: number) => void,
  ): AsyncGenerator<{ readonly offset: number; readonly length: number }> {
    const { type, clusterSize, clusters, dataOffset } = this.boot.geometry;
    const most = Math.min(clusters, Math.ceil(wanted / clusterSize));
    let cluster = first;
    let runStart = first;
    let runLength = 0;
    const run = (): { offset: number; length: number } => ({
      offset: dataOffset + (runStart - FIRST_CLUSTER) * clusterSize,
      length: runLength * clusterSize,
    });
    // A chain longer than the file, or than there are clusters, is not followed further: loops end here.
    for (let count = 0; count < most; count += 1) {
      if (cluster < FIRST_CLUSTER || cluster >= clusters + FIRST_CLUSTER) {
        throw new DiskImageError("DISK_CORRUPT", `expected a cluster in 2..${clusters + 1}, got ${cluster}`);
      }
      onCluster?.(cluster);
      if (cluster !== runStart + runLength) {
        yield run();
        runStart = cluster;
        runLength = 0;
      }
      runLength += 1;
      cluster = await this.#next(cluster);
      if (cluster >= END_OF_CHAIN[type]) break;
      if (cluster === BAD_CLUSTER[type])
        throw new DiskImageError("DISK_CORRUPT", "expected a chain of good clusters, got a bad one");
    }
    yield run();
  }

  async #next(cluster: number): Promise<number> {
    const { type } = this.boot.geometry;
    if (type === 12) {
      const pair = viewOf(await this.#tableBytes(Math.floor((cluster * 3) / 2), 2)).getUint16(0, true);
      return cluster % 2 === 0 ? pair & 0xfff : pair >> 4;
    }
    if (type === 16) return viewOf(await this.#tableBytes(cluster * 2, 2)).getUint16(0, true);
    return viewOf(await this.#tableBytes(cluster * 4, 4)).getUint32(0, true) & FAT32_MASK;
  }

  async #tableBytes(at: number, length: number): Promise<Uint8Array> {
    const window = this.#window;
    if (window === undefined || at < window.start || at + length > window.start + window.bytes.byteLength) {
      const { reservedSectors, sectorSize, fatSectors } = this.boot.geometry;
      const size = Math.min(TABLE_WINDOW, fatSectors * sectorSize - at);
      const bytes = await this.#source.read(reservedSectors * sectorSize + at, size);
      this.#window = { start: at, bytes };
      return bytes.subarray(0, length);
    }
    return window.bytes.subarray(at - window.start, at - window.start + length);
  }
}

function* withoutDots(entries: Iterable<FatEntry>): Generator<FatEntry, undefined> {
  for (const entry of entries) if (entry.name !== "." && entry.name !== "..") yield entry;
}

function assertWithin(value: number, most: number, what: string, path: string): void {
  if (value > most) throw new DiskImageError("DISK_LIMIT", `expected at most ${most} ${what}, got more`, { path });
}

/**
 * Opens a FAT12, FAT16 or FAT32 file system.
 *
 * @param source - The file system, such as a partition; not closed.
 * @returns The volume.
 * @throws {DiskImageError} As {@link decodeFatBootSector}, and `DISK_TRUNCATED` when the source is shorter than the
 *   file system.
 * @example
 * const esp = await openFat(disk.open("esp"));
 * await esp.readFile("EFI/BOOT/BOOTX64.EFI");
 */
export async function openFat(source: BlockSource): Promise<FatVolume> {
  const boot = decodeFatBootSector(await source.read(0, Math.min(512, source.sizeBytes)));
  const { totalSectors, sectorSize } = boot.geometry;
  if (totalSectors * sectorSize > source.sizeBytes) {
    const message = `expected a file system of ${totalSectors * sectorSize} bytes, got ${source.sizeBytes}`;
    throw new DiskImageError("DISK_TRUNCATED", message);
  }
  return new FatVolume(source, boot);
}
