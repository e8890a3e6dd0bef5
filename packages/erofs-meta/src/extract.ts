import { chmod, chown, type FileHandle, lchown, link, lutimes, mkdir, open, symlink, utimes } from "node:fs/promises";
import { basename, join, sep } from "node:path";
import { handleSink } from "@leveret/block-source";
import { ErofsError } from "./errors.ts";
import { ioError } from "./internal/files.ts";
import { nameBytes, systemPath } from "./internal/names.js";
import { extractOptions, parseOptions } from "./options.ts";
import type { ErofsImage } from "./read/image.ts";
import type { FileType, Inode } from "./read/inode.ts";
import type { WalkEntry } from "./read/walk.ts";
import type { Xattr } from "./read/xattr.ts";

/** How to extract. */
export interface ExtractOptions {
  /** path in the image to extract, `/` unless given */
  readonly from?: string | undefined;
  /** give everything its owner, and set-id and sticky bits, which takes root; false unless given */
  readonly owners?: boolean | undefined;
  /** set-id and sticky bits also without owners: a set-user-id file becomes one of yours; false unless given */
  readonly setId?: boolean | undefined;
  /** takes the xattrs of what was made, which Node cannot set; a promise is waited for */
  readonly onXattrs?: ((extracted: ExtractedXattrs) => unknown) | undefined;
  /** most bytes of contents altogether, {@link DEFAULT_MAX_EXTRACT_BYTES} */
  readonly maxBytes?: number | undefined;
  /** most names, {@link DEFAULT_MAX_ENTRIES} */
  readonly maxEntries?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Xattrs of something that was extracted. */
export interface ExtractedXattrs {
  /** path below the destination, without a leading `/`; `.` for the destination, its name where it is no directory */
  readonly path: string;
  /** where it is on this machine */
  readonly file: string;
  readonly xattrs: readonly Xattr[];
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
  /** files, directories and links that have xattrs, which were not set because Node cannot */
  readonly withoutXattrs: number;
  /** files and directories whose set-id or sticky bits were left out */
  readonly withoutSetId: number;
  /** what cannot be made without privileges or system calls that Node has not */
  readonly skipped: readonly { readonly path: string; readonly type: FileType }[];
}

/** Permission bits that harm nobody. */
const PLAIN_MODE = 0o777;
const ALL_MODE = 0o7777;
/** A directory is open to us while it is filled. */
const FILLING_MODE = 0o700;
const MAX_SKIPPED = 1024;

/**
 * Extracts a tree into a directory that must not be there yet. Nothing is written outside of it: every directory is made
 * by this call, files and links are only made where nothing is, and links are never followed. Holes stay holes. Device
 * nodes, pipes and sockets are not made, and xattrs not set, because Node cannot; the report counts what is missing, and
 * `onXattrs` gets the xattrs for whoever can set them.
 *
 * @param image - Image to read.
 * @param destination - Directory to make; what is in it after a failure is left for a look.
 * @param options - See {@link ExtractOptions}.
 * @returns Counts, and what was left out.
 * @throws {ErofsError} `EROFS_EXISTS` where there is something already, also because two names are one on this machine;
 *   `EROFS_NOT_FOUND` when the directory above is missing; `EROFS_LIMIT`, `EROFS_DISK_FULL`, `EROFS_IO`,
 *   `EROFS_NOT_REPRESENTABLE` for a name this machine cannot have, and what reading throws.
 * @example
 * await extractErofs(image, "usr", { from: "/lib" });
 */
export async function extractErofs(
  image: ErofsImage,
  destination: string,
  options: ExtractOptions = {},
): Promise<ExtractReport> {
  const { from, owners, setId, onXattrs, maxBytes, maxEntries, signal } = parseOptions(extractOptions, options);
  const report = {
    ...{ files: 0, directories: 0, symlinks: 0, hardLinks: 0, contentBytes: 0 },
    ...{ withoutXattrs: 0, withoutSetId: 0 },
  };
  const modeMask = owners || setId ? ALL_MODE : PLAIN_MODE;
  const takeBytes = (count: number, path: string): void => {
    report.contentBytes += count;
    if (report.contentBytes <= maxBytes) return;
    throw new ErofsError("EROFS_LIMIT", `expected at most ${maxBytes} bytes of content, got more`, { path });
  };
  const skipped: { path: string; type: FileType }[] = [];
  const linked = new Map<bigint, string>();
  const directories: { real: string; inode: Inode }[] = [];
  let base: string | undefined;
  for await (const entry of image.walk({ from, maxEntries, signal })) {
    base ??= entry.path === "/" ? "" : entry.path;
    const { inode } = entry;
    const place = placeOf(entry, base);
    const real = join(destination, place);
    const known = linked.get(inode.nid);
    if (known !== undefined) {
      await making(real, () => link(systemPath(known), systemPath(real)));
      report.hardLinks += 1;
      continue;
    }
    switch (inode.type) {
      case "directory":
        await making(real, () => mkdir(systemPath(real), { mode: FILLING_MODE }));
        directories.push({ real, inode });
        report.directories += 1;
        break;
      case "file":
        takeBytes(Number(inode.sizeBytes), entry.path);
        await making(real, () => writeContent(image, inode, real, signal));
        report.files += 1;
        break;
      case "symlink": {
        const target = await image.readLink(inode);
        await making(real, () => symlink(systemPath(target), systemPath(real)));
        report.symlinks += 1;
        break;
      }
      default:
        if (skipped.length < MAX_SKIPPED) skipped.push({ path: entry.path, type: inode.type });
        continue;
    }
    if (inode.type !== "symlink" && (inode.mode & ~modeMask) !== 0) report.withoutSetId += 1;
    const xattrs = inode.xattrSizeBytes === 0 ? [] : await image.xattrs(inode);
    if (xattrs.length > 0) {
      report.withoutXattrs += 1;
      if (onXattrs !== undefined) {
        for (const { value } of xattrs) takeBytes(value.byteLength, entry.path);
        const itself = inode.type === "directory" ? "." : basename(real);
        await onXattrs({ path: place === "" ? itself : place.slice(1), file: real, xattrs });
      }
    }
    if (inode.type === "directory") continue;
    if (inode.links > 1) linked.set(inode.nid, real);
    await making(real, () => setAttributes(real, inode, owners, modeMask));
  }
  // Last, because filling a directory changes its time, and its mode may forbid it.
  for (const { real, inode } of directories.reverse()) {
    await making(real, () => setAttributes(real, inode, owners, modeMask));
  }
  return { ...report, skipped };
}

/** The path below the destination; the walk gives names without `/`, and never `.` or `..`. */
function placeOf({ path, name }: WalkEntry, base: string): string {
  if (name === "." || name === ".." || (sep !== "/" && name.includes(sep))) {
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected a name for this machine, got ${name}`, { path });
  }
  return path === "/" ? "" : path.slice(base.length);
}

async function making(real: string, make: () => Promise<void>): Promise<void> {
  try {
    await make();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EEXIST") {
      throw new ErofsError("EROFS_EXISTS", `expected nothing at ${real}, got something that is there already`, {
        path: real,
        hint: "give a name that is free: what is extracted goes into no directory that is there",
        cause: error,
      });
    }
    if (code === "ENAMETOOLONG") {
      const message = `expected a path that this machine can have, got one of ${nameBytes(real).byteLength} bytes`;
      throw new ErofsError("EROFS_NOT_REPRESENTABLE", message, { path: real, cause: error });
    }
    throw ioError(error, code === "ENOENT" ? "create" : "write", real);
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
    handle = await open(systemPath(real), "wx", 0o600);
    const sink = handleSink(handle);
    for await (const { start, bytes } of image.data(inode, { reuse: true })) {
      signal?.throwIfAborted();
      await sink.write(start, bytes);
    }
    // A hole at the end.
    if (inode.layout === "chunk") await handle.truncate(Number(inode.sizeBytes));
  } finally {
    await handle?.close();
  }
}

async function setAttributes(path: string, inode: Inode, owners: boolean, modeMask: number): Promise<void> {
  const real = systemPath(path);
  const seconds = Number(inode.mtime) + inode.mtimeNsec / 1e9;
  if (inode.type === "symlink") {
    if (owners) await lchown(real, inode.uid, inode.gid);
    await lutimes(real, seconds, seconds);
    return;
  }
  if (owners) await chown(real, inode.uid, inode.gid);
  await chmod(real, inode.mode & modeMask);
  await utimes(real, seconds, seconds);
}
