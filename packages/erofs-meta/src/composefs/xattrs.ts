import { MAX_SHARED_XATTRS, XATTR_PREFIXES, XATTR_UNIT } from "../format/xattr.ts";
import { encodeXattrEntry, filterBit, type XattrArea, type XattrName } from "../write/xattr-area.ts";
import type { Node } from "./tree.ts";

/** One extended attribute. */
interface Xattr {
  readonly name: string;
  readonly value: Uint8Array;
}

/** Attributes that more than one node has, each stored once. */
export class SharedXattrs {
  readonly #ids = new Map<string, number>();
  /** the shared area */
  readonly bytes: Uint8Array;

  constructor(nodes: readonly Node[]) {
    const counts = new Map<string, { readonly xattr: Xattr; count: number }>();
    for (const node of nodes) {
      for (const xattr of sorted(node)) {
        const found = counts.get(keyOf(xattr)) ?? { xattr, count: 0 };
        found.count += 1;
        counts.set(keyOf(xattr), found);
      }
    }
    const shared = [...counts.values()].filter(({ count }) => count > 1).map(({ xattr }) => xattr);
    const pieces: Uint8Array[] = [];
    let offset = 0;
    for (const xattr of shared.sort(descending)) {
      this.#ids.set(keyOf(xattr), offset / XATTR_UNIT);
      const entry = encodeEntry(xattr);
      pieces.push(entry);
      offset += entry.byteLength;
    }
    this.bytes = Buffer.concat(pieces);
  }

  /** Divides a node's attributes, ids counted from the start of the shared area; an inode can only name so many. */
  of(node: Node): XattrArea | undefined {
    if (node.xattrs.size === 0) return undefined;
    const shared: number[] = [];
    const own: Uint8Array[] = [];
    for (const xattr of sorted(node)) {
      const id = this.#ids.get(keyOf(xattr));
      if (id !== undefined && shared.length < MAX_SHARED_XATTRS) shared.push(id);
      else own.push(encodeEntry(xattr));
    }
    return { filter: nameFilter(node), shared, own };
  }
}

function encodeEntry({ name, value }: Xattr): Uint8Array {
  return encodeXattrEntry(split(name), value);
}

/** The bits that are set stand for names that an inode certainly has not. */
function nameFilter(node: Node): number {
  let filter = 0xffff_ffff;
  for (const name of node.xattrs.keys()) filter &= ~filterBit(split(name));
  return filter >>> 0;
}

/** Tells whether EROFS has a number for the beginning of a name; without one nobody could read it. */
export function hasKnownPrefix(name: string): boolean {
  return split(name).index !== 0;
}

/** A name's prefix by its number, and the rest. */
function split(name: string): XattrName {
  for (const [index, prefix] of XATTR_PREFIXES) {
    // composefs has no number for Lustre's.
    if (prefix !== "lustre." && name.startsWith(prefix))
      return { index, suffix: Buffer.from(name.slice(prefix.length)) };
  }
  return { index: 0, suffix: Buffer.from(name) };
}

function sorted(node: Node): Xattr[] {
  return [...node.xattrs]
    .map(([name, value]) => ({ name, value }))
    .sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
}

function descending(a: Xattr, b: Xattr): number {
  const names = Buffer.compare(Buffer.from(b.name), Buffer.from(a.name));
  return names || b.value.byteLength - a.value.byteLength || Buffer.compare(b.value, a.value);
}

function keyOf({ name, value }: Xattr): string {
  return `${name}\0${Buffer.from(value).toString("latin1")}`;
}
