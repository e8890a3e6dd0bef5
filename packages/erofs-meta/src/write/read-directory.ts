import { type BigIntStats, lstatSync, readFileSync, readlinkSync } from "node:fs";
import { type FileHandle, lstat, open, readdir } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { ErofsError } from "../errors.ts";
import { ioError } from "../internal/files.ts";
import type { ContentStream, TreeAttributes, TreeEntry } from "./entry.ts";

/** How to read a directory of this machine. */
export interface ReadDirectoryOptions {
  /** owner of everything, instead of what the directory says */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
  /** most directories inside one another, 256 unless given */
  readonly maxDepth?: number | undefined;
}

const DEFAULT_MAX_SOURCE_DEPTH = 256;
/** Names looked at without letting timers and signals be heard: a millisecond or so. */
const BATCH = 32;
/** Files up to this size are read with their batch. */
const SMALL_FILE_SIZE = 64 * 1024;
const READ_SIZE = 1024 * 1024;
const NANOSECONDS = 1_000_000_000n;

/**
 * Streams the tree of a directory as entries for `writeErofs`, names in the order of their bytes, so that the same tree
 * gives the same image. Links are taken as they are, several names of a file become hard links.
 *
 * Extended attributes are not read, because Node has no call for them: add them to the entries on their way.
 *
 * @param root - Directory to read; its own mode, owner and time become the root's.
 * @param options - See {@link ReadDirectoryOptions}.
 * @throws {ErofsError} `EROFS_NOT_FOUND` and `EROFS_IO` from reading, `EROFS_NOT_REPRESENTABLE` for a name that is not
 *   UTF-8, `EROFS_LIMIT` for more than `maxDepth` levels.
 * @example
 * await writeErofs(readDirectory("build/root", { owner: { uid: 0, gid: 0 } }), options);
 */
export async function* readDirectory(root: string, options: ReadDirectoryOptions = {}): AsyncGenerator<TreeEntry> {
  const { owner, maxDepth = DEFAULT_MAX_SOURCE_DEPTH } = options;
  const linked = new Map<string, string>();
  const rootStat = await lstat(root, { bigint: true }).catch((error: unknown) => {
    throw ioError(error, "read", root);
  });
  if (!rootStat.isDirectory()) {
    throw new ErofsError("EROFS_WRONG_TYPE", `expected a directory at ${root}, got something else`, { path: root });
  }
  yield { type: "directory", ...attributesOf("/", rootStat, owner) };
  const pending = [{ path: "", depth: 1 }];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const { path, depth } = directory;
    if (depth > maxDepth) throw new ErofsError("EROFS_LIMIT", `expected at most ${maxDepth} levels`, { path });
    const names = await namesIn(root + path);
    const below: { path: string; depth: number }[] = [];
    for (let first = 0; first < names.length; first += BATCH) {
      await setImmediate();
      for (const name of names.slice(first, first + BATCH)) {
        const found = look(root, `${path}/${name}`);
        const entry = entryOf(found, root, linked, owner);
        yield entry;
        if (entry.type === "directory") below.push({ path: found.path, depth: depth + 1 });
      }
    }
    pending.push(...below.reverse());
  }
}

interface Found {
  readonly path: string;
  readonly stat: BigIntStats;
  /** content of a small file, or a symlink's target */
  readonly content: Uint8Array | undefined;
}

/** Synchronous, because one file's worth of promises takes five times as long as its system calls. */
function look(root: string, path: string): Found {
  const real = root + path;
  try {
    const stat = lstatSync(real, { bigint: true });
    const isSmall = stat.isFile() && stat.nlink === 1n && stat.size <= SMALL_FILE_SIZE;
    if (stat.isSymbolicLink()) return { path, stat, content: readlinkSync(real, { encoding: "buffer" }) };
    return { path, stat, content: isSmall ? readFileSync(real) : undefined };
  } catch (error) {
    throw ioError(error, "read", real);
  }
}

function entryOf(
  { path, stat, content }: Found,
  root: string,
  linked: Map<string, string>,
  owner: ReadDirectoryOptions["owner"],
): TreeEntry {
  const real = root + path;
  const attributes = attributesOf(path, stat, owner);
  if (stat.isDirectory()) return { type: "directory", ...attributes };
  if (stat.nlink > 1n) {
    const key = `${stat.dev}:${stat.ino}`;
    const target = linked.get(key);
    if (target !== undefined) return { type: "link", path, target };
    linked.set(key, path);
  }
  if (stat.isFile()) return { type: "file", ...attributes, content: content ?? fileContent(real, Number(stat.size)) };
  if (stat.isSymbolicLink()) {
    return { type: "symlink", ...attributes, target: textOf(content ?? new Uint8Array(0), real) };
  }
  if (stat.isFIFO()) return { type: "fifo", ...attributes };
  if (stat.isSocket()) return { type: "socket", ...attributes };
  // glibc's makedev: 12 bits of major and 8 of minor below, the rest of both above.
  const major = Number(((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & 0xfffff000n));
  const minor = Number((stat.rdev & 0xffn) | ((stat.rdev >> 12n) & 0xffffff00n));
  return { type: stat.isBlockDevice() ? "block" : "char", ...attributes, device: { major, minor } };
}

function attributesOf(path: string, stat: BigIntStats, owner: ReadDirectoryOptions["owner"]): TreeAttributes {
  const seconds = stat.mtimeNs / NANOSECONDS;
  return {
    path,
    mode: Number(stat.mode & 0o7777n),
    uid: owner?.uid ?? Number(stat.uid),
    gid: owner?.gid ?? Number(stat.gid),
    mtime: seconds,
    mtimeNsec: Number(stat.mtimeNs - seconds * NANOSECONDS),
  };
}

async function namesIn(real: string): Promise<string[]> {
  const names = await readdir(real, { encoding: "buffer" }).catch((error: unknown) => {
    throw ioError(error, "read", real);
  });
  return names.sort(Buffer.compare).map((name) => textOf(name, real));
}

function textOf(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const shown = Buffer.from(bytes).toString("latin1");
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected UTF-8, got ${JSON.stringify(shown)}`, { path, cause });
  }
}

function fileContent(path: string, sizeBytes: number): ContentStream {
  return {
    sizeBytes,
    async *read() {
      let handle: FileHandle | undefined;
      try {
        handle = await open(path, "r");
        const buffer = new Uint8Array(Math.min(READ_SIZE, sizeBytes + 1));
        for (let done = false; !done; ) {
          const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength);
          done = bytesRead === 0;
          if (!done) yield buffer.subarray(0, bytesRead);
        }
      } catch (error) {
        throw ioError(error, "read", path);
      } finally {
        await handle?.close();
      }
    },
  };
}
