import type { BigIntStats } from "node:fs";
import { encodeNotice } from "./codec.ts";
import { errnoOf } from "./errno.ts";
import { KIND, MAX_NOTICE_SIZE, NOTIFY, REPLY_HEADER_SIZE, TELL } from "./format/fuse.ts";
import type { HostFiles } from "./host-files.ts";
import { knowsState, type Node, type NodeTable, noteState } from "./node-table.ts";

/** Changes at once after which programs in the guest are told of directories only. */
const MAX_TOUCHES = 256;
/** Directories that have more are not listed in advance. */
const MAX_PREFETCH = 4096;

/** Tells the guest what the host has changed. */
export class HostChanges {
  readonly #table: NodeTable;
  readonly #files: HostFiles;
  readonly #isHidden: (name: string) => boolean;
  readonly #reopen: (node: Node) => void;
  readonly #notify: (notice: Buffer) => void;

  /**
   * @param reopen - Closes what is open of a node, and watches it again if it was watched.
   * @param notify - Takes notices for the guest, in order.
   */
  constructor(
    table: NodeTable,
    files: HostFiles,
    isHidden: (name: string) => boolean,
    reopen: (node: Node) => void,
    notify: (notice: Buffer) => void,
  ) {
    this.#table = table;
    this.#files = files;
    this.#isHidden = isHidden;
    this.#reopen = reopen;
    this.#notify = notify;
  }

  /** Looks at names of a directory in which something may have changed, by the host or by the guest itself. */
  look(directory: Node, names: ReadonlySet<string>): void {
    let isChanged = false;
    for (const name of names) {
      if (this.#isHidden(name)) continue;
      const changed = this.#lookAt(directory, name);
      if (changed !== undefined && names.size <= MAX_TOUCHES) this.#touch(changed);
      isChanged ||= changed !== undefined;
    }
    const state = this.#state(directory);
    if (state === undefined || knowsState(directory, state)) return;
    noteState(directory, state);
    this.invalidate(directory);
    if (isChanged && names.size > MAX_TOUCHES) this.#touch(pathOf(directory));
  }

  /** Tells the guest that what it remembers of a file's contents and state is wrong. */
  invalidate(node: Node): void {
    // From the beginning to the end.
    const body = Buffer.alloc(24);
    body.writeBigUInt64LE(BigInt(node.id));
    this.#notify(encodeNotice(NOTIFY.invalInode, body));
  }

  /** Lets the guest list a directory. */
  prefetch(directory: Node): void {
    try {
      if (this.#files.names(directory).length > MAX_PREFETCH) return;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return;
    }
    this.#tellPath(TELL.list, pathOf(directory));
  }

  /** Tells the guest that everything may be different: it has been continued with another directory. */
  invalidateAll(): void {
    for (const node of this.#table.nodes()) {
      this.invalidate(node);
      // What it knows by name it looks for by name, whatever that is here.
      if (node.kind !== KIND.directory || this.#table.keepsNames) continue;
      const there = new Set(this.#namesOf(node));
      for (const [name, child] of node.children) {
        const stats = there.delete(name) ? this.#stats(node, name) : undefined;
        // Something of the same kind has the same number, so that who works in a directory can go on.
        if (stats !== undefined) this.#table.meet(node, name, stats);
        if (node.children.get(name) !== child) this.#invalidateEntry(node, name);
        else if (stats === undefined) {
          this.#table.leave(node, name);
          this.#invalidateEntry(node, name);
        }
      }
      // That these do not exist the guest may remember.
      for (const name of there) if (!this.#isHidden(name)) this.#invalidateEntry(node, name);
    }
  }

  /** @returns The path of which to tell programs in the guest, or undefined when the guest knows everything. */
  #lookAt(directory: Node, name: string): string | undefined {
    const stats = this.#stats(directory, name);
    const child = directory.children.get(name);
    const before = child?.identity;
    if (stats !== undefined && child !== undefined && this.#table.isSame(child, stats)) {
      if (child.identity !== before) this.#replaced(child);
      if (knowsState(child, stats)) return undefined;
      noteState(child, stats);
      this.invalidate(child);
      return child.kind === KIND.link ? undefined : pathOf(child);
    }
    if ((stats === undefined && child === undefined) || this.#table.keepsNames) return undefined;
    if (child !== undefined) {
      this.#table.leave(directory, name);
      // What is below it may have gone out of the directory.
      if (child.kind === KIND.directory) this.#files.forgetDirectories();
    }
    this.#invalidateEntry(directory, name);
    const where = pathOf(directory);
    if (stats === undefined) return where;
    return where === "" ? name : `${where}/${name}`;
  }

  /** Something else is where a node is: what is open of the old one, and of all in it, is not it any more. */
  #replaced(node: Node): void {
    this.#reopen(node);
    this.invalidate(node);
    for (const child of node.children.values()) this.#replaced(child);
  }

  #invalidateEntry(directory: Node, name: string): void {
    const body = Buffer.alloc(16 + name.length + 1);
    body.writeBigUInt64LE(BigInt(directory.id));
    body.writeUInt32LE(name.length, 8);
    body.write(name, 16, "latin1");
    this.#notify(encodeNotice(NOTIFY.invalEntry, body));
  }

  #touch(path: string): void {
    // Setting the mode of something is a change, and none may be made.
    if (this.#table.keepsNames) return;
    this.#tellPath(TELL.touch, path);
  }

  #tellPath(kind: number, path: string): void {
    // A path that is too long is that of something nobody watches.
    if (REPLY_HEADER_SIZE + path.length + 1 > MAX_NOTICE_SIZE / 2) return;
    this.#notify(encodeNotice(kind, Buffer.from(`${path}\0`, "latin1")));
  }

  #stats(directory: Node, name: string): BigIntStats | undefined {
    return orUndefined(() => this.#files.look(directory, name));
  }

  #state(directory: Node): BigIntStats | undefined {
    return orUndefined(() => this.#files.directoryState(directory));
  }

  #namesOf(directory: Node): string[] {
    return orUndefined(() => this.#files.names(directory)) ?? [];
  }
}

/** Path of a node below the directory, without a slash in front. */
function pathOf(node: Node): string {
  const names: string[] = [];
  let place = node.places[0];
  // As deep as a path can be, should the host have turned directories inside out.
  for (let depth = 0; place !== undefined && depth < MAX_NOTICE_SIZE; depth++) {
    names.push(place.name);
    place = place.parent.places[0];
  }
  return names.reverse().join("/");
}

/** What the host has removed in the meantime is undefined. */
function orUndefined<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
