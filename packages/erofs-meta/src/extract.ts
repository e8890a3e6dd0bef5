import { chmod, chown, type FileHandle, lchown, link, lutimes, mkdir, open, symlink, utimes } from "node:fs/promises";
import { join, sep } from "node:path";
import { ErofsError } from "./errors.ts";
import { ioError } from "./internal/files.ts";
import { extractOptions, parseOptions } from "./options.ts";
import type { ErofsImage } from "./read/image.ts";
import type { FileType, Inode } from "./read/inode.ts";
import type { WalkEntry } from "./read/walk.ts";

/** How to extract. */
export interface ExtractOptions {
  /** path in the image to extract, `/` unless given */
  readonly from?: string | undefined;
  /** give everything its owner, and set-id and sticky bits, which takes root; false unless given */
  readonly owners?: boolean | undefined;
  /** most bytes of contents altogether, {@link DEFAULT_MAX_EXTRACT_BYTES} */
  readonly maxBytes?: number | undefined;
  /** most names, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was extracted. */
export interface ExtractReport {
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  /** names that are one more name of a file before them */
  readonly hardLinks: number;
  /** length of all contents in `bytes`, holes included */
  readonly contentBytes: number;
  /** what cannot be made without privileges or system calls that Node has not */
  readonly skipped: readonly { readonly path: string; readonly type: FileType }[];
}

/** Permission bits that harm nobody. */
const PLAIN_MODE = 0o777;
/** A directory is open to us while it is filled. */
const FILLING_MODE = 0o700;
const MAX_SKIPPED = 1024;

/**
 * Extracts a tree into a directory that must not be there yet. Nothing is written outside of it: every directory is made
 * by this call, files and links are only made where nothing is, and links are never followed. Holes stay holes. Device
 * nodes, pipes and sockets are not made, and xattrs not set, because Node cannot.
 *
 * @param image - Image to read.
 * @param destination - Directory to make; what is in it after a failure is left for a look.
 * @param options - See {@link ExtractOptions}.
 * @returns Counts, and what was left out.
 * @throws {ErofsError} `EROFS_CORRUPT` for two equal names in a directory, `EROFS_LIMIT`, `EROFS_DISK_FULL`, `EROFS_IO`,
 *   `EROFS_NOT_REPRESENTABLE` for a name this machine cannot have, and what reading throws.
 * @example
 * await extractErofs(image, "usr", { from: "/lib" });
 */
export async function extractErofs(
  image: ErofsImage,
  destination: string,
  options: ExtractOptions = {},
): Promise<ExtractReport> {
  const { from, owners, maxBytes, maxEntries, signal } = parseOptions(extractOptions, options);
  const report = { files: 0, directories: 0, symlinks: 0, hardLinks: 0, contentBytes: 0 };
  const skipped: { path: string; type: FileType }[] = [];
  const linked = new Map<bigint, string>();
  const directories: { real: string; inode: Inode }[] = [];
  let base: string | undefined;
  for await (const entry of image.walk({ from, maxEntries, signal })) {
    base ??= entry.path === "/" ? "" : entry.path;
    const { inode } = entry;
    const real = join(destination, placeOf(entry, base));
    const known = linked.get(inode.nid);
    if (known !== undefined) {
      await making(real, () => link(known, real));
      report.hardLinks += 1;
      continue;
    }
    switch (inode.type) {
      case "directory":
        await making(real, () => mkdir(real, { mode: FILLING_MODE }));
        directories.push({ real, inode });
        report.directories += 1;
        continue;
      case "file":
        report.contentBytes += Number(inode.sizeBytes);
        if (report.contentBytes > maxBytes) {
          throw new ErofsError("EROFS_LIMIT", `expected at most ${maxBytes} bytes of content, got more`, {
            path: entry.path,
          });
        }
        await making(real, () => writeContent(image, inode, real, signal));
        report.files += 1;
        break;
      case "symlink": {
        const target = await image.readLink(inode);
        await making(real, () => symlink(target, real));
        report.symlinks += 1;
        break;
      }
      default:
        if (skipped.length < MAX_SKIPPED) skipped.push({ path: entry.path, type: inode.type });
        continue;
    }
    if (inode.links > 1) linked.set(inode.nid, real);
    await making(real, () => setAttributes(real, inode, owners));
  }
  // Last, because filling a directory changes its time, and its mode may forbid it.
  for (const { real, inode } of directories.reverse()) await making(real, () => setAttributes(real, inode, owners));
  return { ...report, skipped };
}

/** The path below the destination; the walk gives names without `/`, and never `.` or `..`. */
function placeOf({ path, name }: WalkEntry, base: string): string {
  if (name === "." || name === ".." || (sep !== "/" && name.includes(sep))) {
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected a name for this machine, got ${name}`, { path });
  }
  if (path.includes("\ufffd")) {
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", "expected names in UTF-8, got other bytes", { path });
  }
  return path.slice(base.length);
}

async function making(real: string, make: () => Promise<void>): Promise<void> {
  try {
    await make();
  } catch (error) {
    throw ioError(error, "write", real);
  }
}

async function writeContent(
  image: ErofsImage,
  inode: Inode,
  real: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    // Fails where there is something, a link included.
    handle = await open(real, "wx", 0o600);
    for await (const { start, bytes } of image.data(inode, { reuse: true })) {
      signal?.throwIfAborted();
      for (let done = 0; done < bytes.byteLength; ) {
        done += (await handle.write(bytes, done, bytes.byteLength - done, start + done)).bytesWritten;
      }
    }
    // A hole at the end.
    if (inode.layout === "chunk") await handle.truncate(Number(inode.sizeBytes));
  } finally {
    await handle?.close();
  }
}

async function setAttributes(real: string, inode: Inode, owners: boolean): Promise<void> {
  const seconds = Number(inode.mtime) + inode.mtimeNsec / 1e9;
  if (inode.type === "symlink") {
    if (owners) await lchown(real, inode.uid, inode.gid);
    await lutimes(real, seconds, seconds);
    return;
  }
  if (owners) await chown(real, inode.uid, inode.gid);
  await chmod(real, owners ? inode.mode : inode.mode & PLAIN_MODE);
  await utimes(real, seconds, seconds);
}
