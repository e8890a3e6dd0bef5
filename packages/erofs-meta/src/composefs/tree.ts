import { ErofsError, type ErofsErrorCode } from "../errors.ts";
import {
  COMPOSEFS_MAX_CHUNKS,
  COMPOSEFS_MAX_INLINE,
  COMPOSEFS_MAX_NAME,
  COMPOSEFS_MAX_TARGET,
  COMPOSEFS_MAX_XATTR_NAME,
  COMPOSEFS_MAX_XATTRS,
  COMPOSEFS_XATTR_COST,
  OVERLAY,
  OVERLAY_METACOPY_HEADER,
} from "../format/composefs.ts";
import { MODE_TYPE_MASK, MODE_TYPES } from "../format/inode.ts";
import { nameBytes } from "../internal/names.js";
import type { FileType } from "../read/inode.ts";
import { chunksOf } from "./chunks.ts";
import type { ComposefsEntry, ComposefsNode } from "./entry.ts";
import { hasKnownPrefix } from "./xattrs.ts";

const TYPE = { file: 0o100000, char: 0o020000 } as const;
const DIGEST_SIZE = 32;

/** A node while an image is made of it. */
export interface Node {
  readonly path: string;
  mode: number;
  sizeBytes: number;
  links: number;
  readonly uid: number;
  readonly gid: number;
  readonly device: number;
  readonly mtime: bigint;
  readonly mtimeNsec: number;
  /** target of a symbolic link, or content of a file that the image holds itself */
  readonly data: Uint8Array | undefined;
  /** by name, in any order */
  readonly xattrs: Map<string, Uint8Array>;
  /** names of a directory, sorted by their bytes */
  children: Child[];
}

/** A name in a directory. */
export interface Child {
  readonly name: Uint8Array;
  readonly node: Node;
  /** the node belongs to another name, after which it is written */
  readonly isLink: boolean;
}

/** A tree as it is written: what overlayfs needs is in it. */
export interface ComposefsTree {
  readonly root: Node;
  /** version of what overlayfs is told; 1 is needed for trees that have whiteouts themselves */
  readonly version: 0 | 1;
}

/**
 * Makes a tree of entries, with what overlayfs needs to take it for a layer.
 *
 * @throws {ErofsError} `EROFS_BAD_TREE` for entries that make no tree, `EROFS_NOT_REPRESENTABLE` for what no image holds.
 */
export function makeTree(entries: Iterable<ComposefsEntry>): ComposefsTree {
  const nodes = new Map<string, Node>();
  const links: { readonly parent: Node; readonly name: Uint8Array; readonly path: string; readonly linkTo: string }[] =
    [];
  let root: Node | undefined;
  let hasWhiteouts = false;
  const names = new Set<string>();
  for (const entry of entries) {
    const { path } = entry;
    if (names.has(path)) throw wrong("EROFS_BAD_TREE", path, "expected each path once, got it twice");
    names.add(path);
    if ("linkTo" in entry) {
      links.push({ ...place(path, nodes), path, linkTo: entry.linkTo });
      continue;
    }
    const node = nodeOf(entry);
    hasWhiteouts ||= isWhiteout(node);
    if (path === "/") {
      if (typeOf(node) !== "directory")
        throw wrong("EROFS_BAD_TREE", path, "expected a directory as root, got another");
      root = node;
    } else {
      const { parent, name } = place(path, nodes);
      parent.children.push({ name, node, isLink: false });
    }
    nodes.set(path, node);
  }
  if (root === undefined) throw wrong("EROFS_BAD_TREE", "/", "expected a root, got none");
  for (const { parent, name, path, linkTo } of links) {
    const node = nodes.get(linkTo);
    if (node === undefined) throw wrong("EROFS_BAD_TREE", path, `expected a node at ${linkTo}, got none`);
    if (typeOf(node) === "directory") throw wrong("EROFS_BAD_TREE", path, "expected a link to no directory, got one");
    parent.children.push({ name, node, isLink: true });
  }
  const version = hasWhiteouts ? 1 : 0;
  rewrite(root, root, version);
  root.xattrs.set(OVERLAY.opaque, Buffer.from("y"));
  addWhiteouts(root);
  for (const node of [root, ...nodes.values()]) node.children.sort((a, b) => Buffer.compare(a.name, b.name));
  return { root, version };
}

/** The parent and the last name of a path. */
function place(path: string, nodes: ReadonlyMap<string, Node>): { readonly parent: Node; readonly name: Uint8Array } {
  const slash = path.lastIndexOf("/");
  const last = path.slice(slash + 1);
  const parent = nodes.get(slash === 0 ? "/" : path.slice(0, slash));
  if (slash === -1 || last === "" || last === "." || last === "..") {
    throw wrong("EROFS_BAD_TREE", path, "expected an absolute path without empty names, . and .., got another");
  }
  if (parent === undefined || typeOf(parent) !== "directory") {
    throw wrong("EROFS_BAD_TREE", path, "expected its directory before it, got none");
  }
  const name = nameBytes(last);
  if (name.byteLength > COMPOSEFS_MAX_NAME) {
    throw wrong("EROFS_NOT_REPRESENTABLE", path, `expected a name of at most ${COMPOSEFS_MAX_NAME} bytes`);
  }
  return { parent, name };
}

function nodeOf(entry: ComposefsNode): Node {
  const { path, mode, uid, gid, device, mtime, mtimeNsec, content, payload = "", digest } = entry;
  const type = MODE_TYPES.get(mode & MODE_TYPE_MASK);
  if (type === undefined) throw wrong("EROFS_BAD_TREE", path, `expected a type of file, got mode ${mode.toString(8)}`);
  const xattrs = new Map(Object.entries(entry.xattrs).map(([name, value]) => [escapeOverlay(name), value]));
  const node: Node = {
    path,
    mode,
    uid,
    gid,
    device,
    mtime,
    mtimeNsec,
    xattrs,
    links: entry.links,
    sizeBytes: type === "file" ? entry.sizeBytes : 0,
    data: type === "symlink" ? nameBytes(payload) : type === "file" ? content : undefined,
    children: [],
  };
  if (type === "symlink") {
    node.sizeBytes = node.data?.byteLength ?? 0;
    if (node.sizeBytes < 1 || node.sizeBytes > COMPOSEFS_MAX_TARGET) {
      const message = `expected a target of 1..${COMPOSEFS_MAX_TARGET} bytes, got ${node.sizeBytes}`;
      throw wrong("EROFS_NOT_REPRESENTABLE", path, message);
    }
  }
  if (type === "file") addContent(node, payload, digest);
  assertXattrs(node);
  return node;
}

function assertXattrs({ path, xattrs }: Node): void {
  let size = COMPOSEFS_XATTR_COST.all;
  for (const [name, value] of xattrs) {
    const length = Buffer.byteLength(name);
    size += COMPOSEFS_XATTR_COST.each + length + value.byteLength;
    if (!hasKnownPrefix(name)) {
      throw wrong("EROFS_NOT_REPRESENTABLE", path, `expected an extended attribute of a known kind, got ${name}`);
    }
    if (length <= COMPOSEFS_MAX_XATTR_NAME && size <= COMPOSEFS_MAX_XATTRS) continue;
    const message = `expected extended attributes of at most ${COMPOSEFS_MAX_XATTRS} bytes, with names of at most 255`;
    throw wrong("EROFS_NOT_REPRESENTABLE", path, message);
  }
}

/** What is elsewhere is a file without data that overlayfs is told where to find. */
function addContent(node: Node, payload: string, digest: Uint8Array | undefined): void {
  const { path, sizeBytes, data, xattrs } = node;
  if (data !== undefined) {
    if (data.byteLength !== sizeBytes || sizeBytes > COMPOSEFS_MAX_INLINE) {
      const message = `expected ${sizeBytes} bytes of content, ${COMPOSEFS_MAX_INLINE} at most, got ${data.byteLength}`;
      throw wrong("EROFS_NOT_REPRESENTABLE", path, message);
    }
    return;
  }
  if (sizeBytes === 0) return;
  if (digest !== undefined && digest.byteLength !== DIGEST_SIZE) {
    throw wrong("EROFS_BAD_TREE", path, `expected a digest of ${DIGEST_SIZE} bytes, got ${digest.byteLength}`);
  }
  if (chunksOf(sizeBytes).count > COMPOSEFS_MAX_CHUNKS) {
    throw wrong("EROFS_NOT_REPRESENTABLE", path, `expected a smaller file than ${sizeBytes} bytes`);
  }
  const verity = digest === undefined ? [] : [...OVERLAY_METACOPY_HEADER, ...digest];
  xattrs.set(OVERLAY.metacopy, Uint8Array.from(verity));
  if (payload !== "") xattrs.set(OVERLAY.redirect, nameBytes(payload.startsWith("/") ? payload : `/${payload}`));
}

/** What is overlayfs's own in the tree has to reach whoever mounts it. */
function escapeOverlay(name: string): string {
  return name.startsWith(OVERLAY.prefix) ? OVERLAY.escapedPrefix + name.slice(OVERLAY.prefix.length) : name;
}

function rewrite(node: Node, parent: Node, version: 0 | 1): void {
  // A walk with a list of its own: how deep a tree is, is up to whoever wrote it.
  const waiting = [{ node, parent }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { node: here, parent: above } = next;
    if (isWhiteout(here)) escapeWhiteout(here, above, version);
    if (typeOf(here) !== "directory") continue;
    const subdirectories = here.children.filter((child) => typeOf(child.node) === "directory");
    here.links = 2 + subdirectories.length;
    for (const child of here.children) if (!child.isLink) waiting.push({ node: child.node, parent: here });
    here.children.push(
      { name: Buffer.from("."), node: here, isLink: true },
      { name: Buffer.from(".."), node: above, isLink: true },
    );
  }
}

/** A whiteout of the tree itself must not hide anything here: it becomes a file that overlayfs shows as one. */
function escapeWhiteout(node: Node, parent: Node, version: 0 | 1): void {
  node.sizeBytes = 0;
  node.mode = TYPE.file | (node.mode & ~MODE_TYPE_MASK);
  for (const prefix of [OVERLAY.escapedPrefix, OVERLAY.userPrefix]) {
    node.xattrs.set(`${prefix}whiteout`, new Uint8Array(0));
    parent.xattrs.set(`${prefix}whiteouts`, new Uint8Array(0));
    if (version === 1) parent.xattrs.set(`${prefix}opaque`, Buffer.from("x"));
  }
}

/** Hides the directories in which contents lie, 00 to ff, unless the tree has the name itself. */
function addWhiteouts(root: Node): void {
  const taken = new Set(root.children.map(({ name }) => Buffer.from(name).toString("latin1")));
  const selinux = root.xattrs.get("security.selinux");
  for (let index = 0; index < 256; index += 1) {
    const name = index.toString(16).padStart(2, "0");
    if (taken.has(name)) continue;
    const { uid, gid, mtime, mtimeNsec } = root;
    const xattrs = new Map(selinux === undefined ? [] : [["security.selinux", selinux]]);
    const shape = { mode: TYPE.char | 0o644, sizeBytes: 0, links: 1, device: 0, data: undefined, children: [] };
    const node = { path: `/${name}`, uid, gid, mtime, mtimeNsec, xattrs, ...shape };
    root.children.push({ name: Buffer.from(name), node, isLink: false });
  }
}

function isWhiteout(node: Node): boolean {
  return typeOf(node) === "char" && node.device === 0;
}

/** Type of a node; every mode that comes here has one. */
export function typeOf({ mode }: Pick<Node, "mode">): FileType {
  return MODE_TYPES.get(mode & MODE_TYPE_MASK) ?? "file";
}

function wrong(code: ErofsErrorCode, path: string, message: string): ErofsError {
  return new ErofsError(code, `${message} (${path})`, { path });
}
