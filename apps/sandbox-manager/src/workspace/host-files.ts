import {
  type BigIntStats,
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
} from "node:fs";
import { isErrno, Refusal } from "./errno.ts";
import { KIND } from "./format/fuse.ts";
import type { Node, NodeTable, Place } from "./node-table.ts";

/** `O_PATH` of Linux, which Node does not name: a file that is only referred to, not opened. */
const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY, O_RDONLY, O_RDWR, O_WRONLY } = constants;
/** Open directories and files that are kept, in case they are wanted again. */
const MAX_DIRECTORIES = 256;
const MAX_FILES = 256;
/** Removed files that the guest may still have open. */
const MAX_REMOVED = 1024;
/** Directories in each other; more have no path. */
const MAX_DEPTH = 1024;

/** A path for Node's functions: bytes where it is no ASCII. */
export type HostPath = string | Buffer;

/** A file of the host that is open; not closed while somebody uses it. */
export interface OpenFile {
  readonly descriptor: number;
  readonly writable: boolean;
  users: number;
  /** whether it is to be closed when nobody uses it any more */
  stale: boolean;
}

/**
 * The directory's files, reached so that no link is followed: every step is taken from an open directory, by one name.
 *
 * What a node is has been noted when it was met, and is compared whenever it is opened: where the host, or a guest in
 * the meantime, has put something else in its place, it is stale.
 */
export class HostFiles {
  readonly #table: NodeTable;
  readonly #root: number;
  /** in order of their last use */
  readonly #directories = new Map<Node, number>();
  readonly #files = new Map<Node, OpenFile>();
  readonly #removed = new Map<Node, number>();

  /**
   * @param root - Descriptor of the directory; closed by {@link HostFiles.close}.
   */
  constructor(root: number, table: NodeTable) {
    this.#root = root;
    this.#table = table;
  }

  /** Path of an entry of a directory. */
  path(parent: Node, name: string): HostPath {
    return entryPath(this.#directory(parent), name);
  }

  /** Path of a directory itself. */
  directoryPath(node: Node): string {
    return `/proc/self/fd/${this.#directory(node)}`;
  }

  /** State of a directory, without looking whether it is still where it was. */
  directoryState(node: Node): BigIntStats {
    return fstatSync(this.#directory(node), { bigint: true });
  }

  /** State of an entry; undefined when there is none. */
  look(parent: Node, name: string): BigIntStats | undefined {
    return lstatSync(this.path(parent, name), { bigint: true, throwIfNoEntry: false });
  }

  /** Names in a directory, one character per byte. */
  names(node: Node): string[] {
    return readdirSync(this.directoryPath(node), { encoding: "latin1" });
  }

  /**
   * State of a node, wherever it is.
   *
   * @throws {Refusal} `ESTALE` when it is nowhere any more.
   */
  state(node: Node): BigIntStats {
    if (node === this.#table.root) return fstatSync(this.#root, { bigint: true });
    const removed = this.#removed.get(node);
    if (removed !== undefined) return fstatSync(removed, { bigint: true });
    return this.find(node).stats;
  }

  /** Where a node is, and its state. */
  find(node: Node): { place: Place; stats: BigIntStats } {
    for (const place of node.places) {
      const stats = this.look(place.parent, place.name);
      // Notes what it is when nobody has looked since the guest was continued.
      if (stats !== undefined && node.identity === undefined) this.#table.meet(place.parent, place.name, stats);
      if (stats !== undefined && this.#table.isSame(node, stats)) return { place, stats };
    }
    throw new Refusal("ESTALE");
  }

  /** A path that leads to the node itself and cannot be made to lead anywhere else; `use` must not keep it. */
  withPath<T>(node: Node, use: (path: string) => T): T {
    if (node === this.#table.root) return use(`/proc/self/fd/${this.#root}`);
    const removed = this.#removed.get(node);
    if (removed !== undefined) return use(`/proc/self/fd/${removed}`);
    const { place } = this.find(node);
    const descriptor = this.#open(this.path(place.parent, place.name), O_PATH | O_NOFOLLOW);
    try {
      if (!this.#table.isSame(node, fstatSync(descriptor, { bigint: true }))) throw new Refusal("ESTALE");
      return use(`/proc/self/fd/${descriptor}`);
    } finally {
      closeSync(descriptor);
    }
  }

  /**
   * Opens the contents of a file, or finds it open.
   *
   * @returns To be given back to {@link HostFiles.release}.
   */
  acquire(node: Node, writable: boolean): OpenFile {
    if (node.kind !== KIND.file) throw new Refusal(node.kind === KIND.directory ? "EISDIR" : "EINVAL");
    let file = this.#files.get(node);
    if (file === undefined || (writable && !file.writable)) {
      const descriptor = this.withPath(node, (path) => this.#openContents(path, writable));
      this.adopt(node, descriptor, writable);
      file = this.#files.get(node);
      if (file === undefined) throw new Error("bug: the file was just opened");
    } else {
      this.#files.delete(node);
      this.#files.set(node, file);
    }
    file.users += 1;
    return file;
  }

  /** Ends a use of an open file. */
  release(file: OpenFile): void {
    file.users -= 1;
    if (file.users === 0 && file.stale) closeSync(file.descriptor);
  }

  /** Keeps a file that was just opened. */
  adopt(node: Node, descriptor: number, writable: boolean): void {
    const before = this.#files.get(node);
    if (before !== undefined) this.#dispose(node, before);
    this.#files.set(node, { descriptor, writable, users: 0, stale: false });
    for (const [oldest, file] of this.#files) {
      if (this.#files.size <= MAX_FILES) break;
      if (oldest !== node) this.#dispose(oldest, file);
    }
  }

  /** Keeps hold of what is about to be removed: the guest may have it open. */
  hold(node: Node): void {
    if (this.#removed.has(node) || this.#removed.size >= MAX_REMOVED) return;
    const { place } = this.find(node);
    this.#removed.set(node, this.#open(this.path(place.parent, place.name), O_PATH | O_NOFOLLOW));
  }

  /** Lets go of what was held, and is still there. */
  unhold(node: Node): void {
    const removed = this.#removed.get(node);
    if (removed !== undefined) closeSync(removed);
    this.#removed.delete(node);
  }

  /** Closes whatever is open of a node. */
  forget(node: Node): void {
    const file = this.#files.get(node);
    if (file !== undefined) this.#dispose(node, file);
    const directory = this.#directories.get(node);
    if (directory !== undefined) closeSync(directory);
    this.#directories.delete(node);
    this.unhold(node);
  }

  /** Closes the directories that are only kept in case: one of them has been moved by the host. */
  forgetDirectories(): void {
    for (const descriptor of this.#directories.values()) closeSync(descriptor);
    this.#directories.clear();
  }

  /** Closes everything. */
  close(): void {
    this.forgetDirectories();
    for (const [node, file] of [...this.#files]) this.#dispose(node, file);
    for (const node of [...this.#removed.keys()]) this.unhold(node);
    closeSync(this.#root);
  }

  #directory(node: Node): number {
    // Up to one that is open, then down again: without recursion, because a guest decides how deep this is.
    const chain: Node[] = [];
    let at = node;
    while (at !== this.#table.root && !this.#directories.has(at)) {
      chain.push(at);
      const parent = at.places[0]?.parent;
      if (parent === undefined) throw new Refusal("ESTALE");
      if (chain.length > MAX_DEPTH) throw new Refusal("ENAMETOOLONG");
      at = parent;
    }
    let descriptor = this.#directories.get(at) ?? this.#root;
    if (at !== this.#table.root) {
      this.#directories.delete(at);
      this.#directories.set(at, descriptor);
    }
    for (const next of chain.reverse()) {
      const name = next.places[0]?.name ?? "";
      descriptor = this.#openDirectory(next, entryPath(descriptor, name), next.places[0]);
    }
    return descriptor;
  }

  #openDirectory(node: Node, path: HostPath, place: Place | undefined): number {
    const descriptor = this.#open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    const stats = fstatSync(descriptor, { bigint: true });
    if (node.identity === undefined && place !== undefined) this.#table.meet(place.parent, place.name, stats);
    if (!this.#table.isSame(node, stats)) {
      closeSync(descriptor);
      throw new Refusal("ESTALE");
    }
    this.#directories.set(node, descriptor);
    for (const [oldest, old] of this.#directories) {
      if (this.#directories.size <= MAX_DIRECTORIES) break;
      closeSync(old);
      this.#directories.delete(oldest);
    }
    return descriptor;
  }

  #openContents(path: string, writable: boolean): number {
    const flags = (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY;
    try {
      return this.#open(path, flags);
    } catch (error) {
      if (!isErrno(error, "EACCES")) throw error;
    }
    // The guest's kernel has checked what the guest may: root may all, and whoever opened a file before its mode was
    // changed may go on. The owner on the host may as well, by giving himself the right for a moment.
    const mode = Number(fstatMode(path));
    chmodSync(path, mode | (writable ? 0o600 : 0o400));
    try {
      return this.#open(path, flags);
    } finally {
      chmodSync(path, mode);
    }
  }

  #open(path: HostPath, flags: number): number {
    try {
      return openSync(path, flags);
    } catch (error) {
      if (!isErrno(error, "EMFILE") && !isErrno(error, "ENFILE")) throw error;
    }
    // What is only kept in case makes room. Directories are not: the path leads through one of them.
    for (const [node, file] of [...this.#files]) this.#dispose(node, file);
    return openSync(path, flags);
  }

  #dispose(node: Node, file: OpenFile): void {
    this.#files.delete(node);
    file.stale = true;
    if (file.users === 0) closeSync(file.descriptor);
  }
}

/** Flags for a file that is made: only when nothing is there, and for whatever the guest does with it. */
export const CREATE_FLAGS: number = constants.O_CREAT | constants.O_EXCL | O_NOFOLLOW | O_RDWR;

/** Flags for writing at the end, wherever that is by now. */
export const APPEND_FLAGS: number = O_WRONLY | constants.O_APPEND | O_NONBLOCK | O_NOCTTY;

/** Opens the directory that is served, by a path of the host. */
export function openRoot(path: string): number {
  return openSync(path, O_PATH | O_DIRECTORY);
}

function entryPath(directory: number, name: string): HostPath {
  const path = `/proc/self/fd/${directory}/${name}`;
  return isAscii(name) ? path : Buffer.from(path, "latin1");
}

function isAscii(name: string): boolean {
  for (let index = 0; index < name.length; index++) if (name.charCodeAt(index) > 0x7f) return false;
  return true;
}

function fstatMode(path: string): number {
  // The last step is that of /proc, which leads to the file itself.
  const descriptor = openSync(path, O_PATH);
  try {
    return fstatSync(descriptor).mode & 0o7777;
  } finally {
    closeSync(descriptor);
  }
}
