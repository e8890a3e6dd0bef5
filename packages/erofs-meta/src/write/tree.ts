import { ErofsError } from "../errors.ts";
import { MAX_NAME_BYTES } from "../format/directory.ts";
import { COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE } from "../format/inode.ts";
import { XATTR_HEADER_SIZE } from "../format/xattr.ts";
import { isNameText, nameBytes } from "../internal/names.js";
import type { Steps } from "../internal/steps.ts";
import type { CompressingPlacer } from "./compressing-placer.ts";
import { type ContentOptions, type ContentOutput, placeContent, TailStore } from "./content.ts";
import type { TreeAttributes, TreeEntry } from "./entry.ts";
import type { Child, DirectoryNode, EncodedXattr, Node, Placement } from "./node.ts";
import type { XattrTable } from "./xattrs.ts";

/** What the tree needs of the options of an image. */
export interface TreeSettings {
  readonly blockSize: number;
  readonly sparse: boolean;
  readonly buildTime: bigint;
  readonly buildTimeNsec: number;
  /** give everything the build time */
  readonly fixedTime: boolean;
  readonly maxEntries: number;
  readonly maxDepth: number;
  readonly maxTailBytes: number;
}

const MAX_U32 = 0xffffffff;
const MAX_NSEC = 999_999_999;
/** Longest target that Linux reads. */
const MAX_TARGET_BYTES = 4095;
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xfffff;
/** Shared by nodes, of which there may be millions. */
const NO_XATTRS: readonly EncodedXattr[] = [];
const NO_CONTENT: Placement = { layout: "plain", block: 0 };

/** Gathers the tree entry by entry, writing contents as they come. */
export class TreeBuilder {
  readonly root: DirectoryNode;
  readonly #settings: TreeSettings;
  readonly #output: ContentOutput;
  readonly #xattrs: XattrTable;
  readonly #tails: TailStore;
  readonly #compressing: CompressingPlacer | undefined;
  #entries = 0;

  /** @param compressing - compresses contents, unless they are to be stored as they are */
  constructor(
    settings: TreeSettings,
    output: ContentOutput,
    xattrs: XattrTable,
    compressing: CompressingPlacer | undefined,
  ) {
    this.#settings = settings;
    this.#output = output;
    this.#xattrs = xattrs;
    this.#tails = new TailStore(settings.maxTailBytes);
    this.#compressing = compressing;
    this.root = this.#directory({ path: "/" });
  }

  /** Adds one entry. */
  *add(entry: TreeEntry): Steps<void> {
    this.#entries += 1;
    if (this.#entries > this.#settings.maxEntries) {
      throw new ErofsError("EROFS_LIMIT", `expected at most ${this.#settings.maxEntries} entries`, {
        path: entry.path,
      });
    }
    const names = componentsOf(entry.path);
    const { maxDepth } = this.#settings;
    // The root is one of them.
    if (names.length + (entry.type === "directory" ? 1 : 0) > maxDepth) {
      const message = `expected at most ${maxDepth} nested directories, which is what can be read, got more`;
      throw new ErofsError("EROFS_LIMIT", message, { path: entry.path });
    }
    const name = names.pop();
    if (name === undefined) {
      if (entry.type !== "directory") throw badTree(entry.path, `expected a directory as root, got a ${entry.type}`);
      this.#change(this.root, entry);
      return;
    }
    const parent = this.#parent(names);
    const known = parent.children.get(name);
    if (known !== undefined) {
      if (isDirectory(known) && entry.type === "directory") {
        this.#change(known, entry);
        return;
      }
      if (entry.replaces !== true) throw badTree(entry.path, "expected each name once, got it again");
      if (isDirectory(known) && known.children.size > 0) {
        throw badTree(entry.path, `expected a directory, because there are names in it already, got a ${entry.type}`);
      }
    }
    const path = parent === this.root ? `/${name}` : `${parent.path}/${name}`;
    parent.children.set(name, yield* this.#child(entry, path));
  }

  *#child(entry: TreeEntry, path: string): Steps<Child> {
    if (entry.type === "link") {
      const found = childAt(this.root, entry.target);
      return found === undefined || isDirectory(found) ? { type: "link", path, target: entry.target } : found;
    }
    if (entry.type === "directory") return this.#directory({ ...entry, path });
    const node = this.#node({ ...entry, path }, entry.type);
    switch (entry.type) {
      case "file":
        node.size = entry.content instanceof Uint8Array ? entry.content.byteLength : entry.content.sizeBytes;
        if (!Number.isSafeInteger(node.size) || node.size < 0) throw badTree(path, `expected a size, got ${node.size}`);
        yield* this.#place(node, entry.content);
        break;
      case "symlink": {
        const target = nameBytes(entry.target);
        if (!isNameText(entry.target)) throw unrepresentable(path, "a target that is Unicode text", "half a character");
        if (target.byteLength === 0 || target.byteLength > MAX_TARGET_BYTES || target.includes(0)) {
          throw unrepresentable(path, `a target of 1..${MAX_TARGET_BYTES} bytes`, `${target.byteLength} bytes`);
        }
        node.size = target.byteLength;
        yield* this.#place(node, target);
        break;
      }
      case "char":
      case "block": {
        const { major, minor } = entry.device;
        within(path, "a major device number", major, MAX_MAJOR);
        within(path, "a minor device number", minor, MAX_MINOR);
        node.device = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
        break;
      }
    }
    return node;
  }

  *#place(node: Node, content: Parameters<typeof placeContent>[1]): Steps<void> {
    const options: ContentOptions = {
      blockSize: this.#settings.blockSize,
      sparse: this.#settings.sparse && node.type === "file",
      tails: this.#tails,
      maxTail: maxTailOf(node, this.#settings.blockSize),
    };
    const { path } = node;
    if (this.#compressing === undefined) {
      node.placement = yield* placeContent(this.#output, content, path, options);
      return;
    }
    const place = (placement: Placement): void => {
      node.placement = placement;
    };
    const areaEnd = this.#settings.blockSize - options.maxTail;
    yield* this.#compressing.add({ path, content, options, areaEnd, isRaw: node.type !== "file", place });
  }

  #parent(names: readonly string[]): DirectoryNode {
    let directory = this.root;
    for (const [index, name] of names.entries()) {
      let next = directory.children.get(name);
      if (next === undefined) {
        next = this.#directory({ path: `/${names.slice(0, index + 1).join("/")}` });
        directory.children.set(name, next);
      }
      if (!isDirectory(next)) throw badTree(next.path, `expected a directory, got a ${next.type}`);
      directory = next;
    }
    return directory;
  }

  #directory(attributes: TreeAttributes): DirectoryNode {
    return { ...this.#node(attributes, "directory"), children: new Map() };
  }

  #node(attributes: TreeAttributes, type: Node["type"]): Node {
    const { path } = attributes;
    return {
      type,
      path,
      ...this.#attributes(attributes, type),
      xattrs: this.#encodeXattrs(attributes),
      links: 0,
      size: 0,
      placement: NO_CONTENT,
      ino: 0,
      nid: 0,
      offset: 0,
    };
  }

  #change(directory: DirectoryNode, attributes: TreeAttributes): void {
    for (const entry of directory.xattrs) entry.uses -= 1;
    Object.assign(directory, this.#attributes(attributes, "directory"), { xattrs: this.#encodeXattrs(attributes) });
  }

  #encodeXattrs({ xattrs, path }: TreeAttributes): readonly EncodedXattr[] {
    return xattrs === undefined ? NO_XATTRS : this.#xattrs.encode(xattrs, path);
  }

  #attributes(
    attributes: TreeAttributes,
    type: Node["type"],
  ): Pick<Node, "mode" | "uid" | "gid" | "mtime" | "mtimeNsec"> {
    const { buildTime, buildTimeNsec, fixedTime } = this.#settings;
    const { path, mode = defaultMode(type), uid = 0, gid = 0 } = attributes;
    const { mtime = buildTime, mtimeNsec = attributes.mtime === undefined ? buildTimeNsec : 0 } = fixedTime
      ? { mtime: buildTime, mtimeNsec: buildTimeNsec }
      : attributes;
    within(path, "permission bits", mode, 0o7777);
    within(path, "a user id", uid, MAX_U32);
    within(path, "a group id", gid, MAX_U32);
    within(path, "nanoseconds", mtimeNsec, MAX_NSEC);
    if (mtime < 0n || mtime >= 1n << 63n) throw unrepresentable(path, "a time since 1970", `${mtime}`);
    return { mode, uid, gid, mtime, mtimeNsec };
  }
}

/** Bytes that surely fit behind a node's inode and xattrs in the same block. */
export function maxTailOf({ xattrs }: Node, blockSize: number): number {
  const area = xattrs.reduce((size, { bytes }) => size + bytes.byteLength, xattrs.length === 0 ? 0 : XATTR_HEADER_SIZE);
  return blockSize - Math.max(COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE) - area;
}

export function isDirectory(child: Child): child is DirectoryNode {
  return child.type === "directory";
}

/** What a path leads to so far, without following links. */
export function childAt(root: DirectoryNode, path: string): Child | undefined {
  let found: Child | undefined = root;
  for (const name of componentsOf(path)) {
    found = found !== undefined && isDirectory(found) ? found.children.get(name) : undefined;
  }
  return found;
}

/** Splits a path into names; `..` is refused, because what it means depends on links. */
function componentsOf(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  for (const name of names) {
    const size = name.length * 3 <= MAX_NAME_BYTES ? name.length : nameBytes(name).byteLength;
    if (name === "..") throw badTree(path, "expected a path without '..'");
    if (name.includes("\0")) throw badTree(path, "expected a path without NUL");
    if (size > MAX_NAME_BYTES) throw unrepresentable(path, `names of at most ${MAX_NAME_BYTES} bytes`, `${size} bytes`);
    if (!isNameText(name)) throw unrepresentable(path, "a name that is Unicode text", "half a character");
  }
  return names;
}

function defaultMode(type: Node["type"]): number {
  if (type === "directory") return 0o755;
  return type === "symlink" ? 0o777 : 0o644;
}

function within(path: string, what: string, value: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < 0 || value > most) {
    throw unrepresentable(path, `${what} in 0..${most}`, `${value}`);
  }
}

export function badTree(path: string, message: string): ErofsError {
  return new ErofsError("EROFS_BAD_TREE", message, { path });
}

function unrepresentable(path: string, expected: string, got: string): ErofsError {
  return new ErofsError("EROFS_NOT_REPRESENTABLE", `expected ${expected}, got ${got}`, { path });
}
