// JavaScript, not TypeScript: worker threads of Node 20 start from it both in the sources and in the built package.
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from "node:fs";
import { nameText, systemPath } from "../internal/names.js";

/**
 * @typedef {object} PendingDirectory
 * @property {string} path below the root, with a leading slash
 * @property {number} depth
 * @property {string[]} [names] once it has been read
 * @property {number} [next] first name that was not looked at yet
 * @property {PendingDirectory[]} [below] directories found in it
 */

/**
 * @typedef {object} ScanJob
 * @property {string} root
 * @property {PendingDirectory[]} pending directories to scan, the last one first
 * @property {number} maxDepth
 * @property {number} maxNames most names of a batch
 */

/**
 * What was found, directory after directory, names in the order of their bytes; in columns, because a message full of
 * objects takes longer than the scan.
 *
 * @typedef {object} ScannedBatch
 * @property {string[]} paths below the root
 * @property {Float64Array<ArrayBuffer>} numbers `FIELDS` of them for each path
 * @property {Map<number, string>} targets of symbolic links
 * @property {Map<number, string>} identities of what has several names
 * @property {ArrayBuffer} content of files that had room in it
 */

/** Numbers of each path: the type is a place in `SCANNED_TYPES`, content that is not at hand starts at -1. */
export const FIELD = {
  ...{ type: 0, mode: 1, uid: 2, gid: 3, mtime: 4, mtimeNsec: 5 },
  ...{ major: 6, minor: 7, contentStart: 8, contentSize: 9 },
};
export const FIELDS = 10;

export const SCANNED_TYPES = /** @type {const} */ (["file", "directory", "symlink", "char", "block", "fifo", "socket"]);

/** The type bits of a mode, in the order of `SCANNED_TYPES`. */
const MODE_TYPES = [0o100000n, 0o040000n, 0o120000n, 0o020000n, 0o060000n, 0o010000n, 0o140000n];
const MODE_TYPE_MASK = 0o170000n;
const FILE = 0;
const DIRECTORY = 1;
const SYMLINK = 2;
const NANOSECONDS = 1_000_000_000n;

/** What a scan fails with; what `node:fs` throws is among its causes. */
export class ScanError extends Error {
  /**
   * @param {"read" | "depth"} kind
   * @param {string} path
   * @param {string} message
   * @param {unknown} [cause]
   */
  constructor(kind, path, message, cause) {
    super(message, { cause });
    this.kind = kind;
    this.path = path;
  }
}

/**
 * Scans until a batch is full, without waiting: one file's worth of promises takes five times as long as its system
 * calls.
 *
 * @param {ScanJob} job `pending` is kept up to date
 * @param {ArrayBuffer} content room for contents
 * @returns {ScannedBatch} with no paths in it at the end
 */
export function scanBatch({ root, pending, maxDepth, maxNames }, content) {
  const batch = {
    paths: /** @type {string[]} */ ([]),
    numbers: new Float64Array(maxNames * FIELDS),
    targets: new Map(),
    identities: new Map(),
    content,
  };
  const room = { bytes: new Uint8Array(content), used: 0 };
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const { path, depth } = directory;
    if (depth > maxDepth) throw new ScanError("depth", path, `expected at most ${maxDepth} levels`);
    const { names = reading(root + path, namesIn), next = 0, below = [] } = directory;
    for (let index = next; index < names.length; index += 1) {
      const here = `${path}/${names[index]}`;
      const isTaken = batch.paths.length < maxNames && reading(root + here, (real) => look(real, here, batch, room));
      if (!isTaken) {
        pending.push({ path, depth, names, next: index, below });
        return batch;
      }
      const isDirectory = batch.numbers[(batch.paths.length - 1) * FIELDS] === DIRECTORY;
      if (isDirectory) below.push({ path: here, depth: depth + 1 });
    }
    while (below.length > 0) pending.push(/** @type {PendingDirectory} */ (below.pop()));
  }
  return batch;
}

/**
 * Adds a path to a batch.
 *
 * @param {string | Buffer} real
 * @param {string} path
 * @param {ScannedBatch} batch
 * @param {{ readonly bytes: Uint8Array, used: number }} room
 * @returns {boolean} whether its content had room, or would have none in any batch
 */
function look(real, path, { paths, numbers, targets, identities }, room) {
  const stat = lstatSync(real, { bigint: true });
  const type = MODE_TYPES.indexOf(stat.mode & MODE_TYPE_MASK);
  const size = Number(stat.size);
  const at = paths.length * FIELDS;
  let start = -1;
  let length = size;
  // Files with several names have content only once, which is found out where entries are made.
  if (type === FILE && stat.nlink === 1n && size < room.bytes.byteLength) {
    if (room.used + size >= room.bytes.byteLength) return false;
    const target = room.bytes.subarray(room.used, room.used + size + 1);
    const read = readStart(real, target);
    // A file that grows meanwhile is left to be read later, which will notice.
    if (read < target.byteLength) {
      start = room.used;
      length = read;
      room.used += read;
    }
  }
  if (type === SYMLINK) targets.set(paths.length, nameText(readlinkSync(real, { encoding: "buffer" })));
  if (type !== DIRECTORY && stat.nlink > 1n) identities.set(paths.length, `${stat.dev}:${stat.ino}`);
  const { mode, uid, gid, mtime, mtimeNsec } = attributesOf(stat);
  numbers[at + FIELD.type] = type;
  numbers[at + FIELD.mode] = mode;
  numbers[at + FIELD.uid] = uid;
  numbers[at + FIELD.gid] = gid;
  numbers[at + FIELD.mtime] = mtime;
  numbers[at + FIELD.mtimeNsec] = mtimeNsec;
  // glibc's makedev: 12 bits of major and 8 of minor below, the rest of both above.
  numbers[at + FIELD.major] = Number(((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & 0xfffff000n));
  numbers[at + FIELD.minor] = Number((stat.rdev & 0xffn) | ((stat.rdev >> 12n) & 0xffffff00n));
  numbers[at + FIELD.contentStart] = start;
  numbers[at + FIELD.contentSize] = length;
  paths.push(path);
  return true;
}

/**
 * What entries of every type have.
 *
 * @param {import("node:fs").BigIntStats} stat
 */
export function attributesOf(stat) {
  const seconds = stat.mtimeNs / NANOSECONDS;
  return {
    mode: Number(stat.mode & 0o7777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtime: Number(seconds),
    mtimeNsec: Number(stat.mtimeNs - seconds * NANOSECONDS),
  };
}

/**
 * Fills the target, which is a byte longer than the file should be, so that reading it whole takes one call.
 *
 * @param {string | Buffer} real
 * @param {Uint8Array} target
 */
function readStart(real, target) {
  const file = openSync(real, "r");
  try {
    let filled = readSync(file, target);
    while (filled < target.byteLength - 1) {
      const more = readSync(file, target, filled, target.byteLength - filled, null);
      if (more === 0) break;
      filled += more;
    }
    return filled;
  } finally {
    closeSync(file);
  }
}

/** @param {string | Buffer} real */
function namesIn(real) {
  const names = readdirSync(real, { encoding: "buffer" });
  return names.sort(Buffer.compare).map(nameText);
}

/**
 * @template T
 * @param {string} real
 * @param {(real: string | Buffer) => T} read
 */
function reading(real, read) {
  try {
    return read(systemPath(real));
  } catch (error) {
    if (error instanceof ScanError) throw error;
    throw new ScanError("read", real, "", error);
  }
}
