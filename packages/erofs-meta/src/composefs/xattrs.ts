import { XATTR_FILTER_BITS, XATTR_FILTER_SEED } from "../format/composefs.ts";
import { MAX_SHARED_XATTRS, XATTR_ALIGNMENT, XATTR_ENTRY, XATTR_ENTRY_SIZE, XATTR_PREFIXES } from "../format/xattr.ts";
import { xxh32 } from "../internal/xxh32.ts";
import type { Node } from "./tree.ts";

/** One extended attribute. */
export interface Xattr {
  readonly name: string;
  readonly value: Uint8Array;
}

/** Where a node's attributes are. */
interface NodeXattrs {
  /** offsets into the shared area, in `bytes` */
  readonly ids: readonly number[];
  /** attributes that are beside the inode */
  readonly own: readonly Xattr[];
}

/** Attributes that more than one node has, each stored once. */
export class SharedXattrs {
  readonly #offsets = new Map<string, number>();
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
      this.#offsets.set(keyOf(xattr), offset);
      pieces.push(encodeEntry(xattr));
      offset += entrySize(xattr);
    }
    this.bytes = Buffer.concat(pieces);
  }

  /** Divides a node's attributes; an inode can only name so many shared ones. */
  of(node: Node): NodeXattrs {
    const ids: number[] = [];
    const own: Xattr[] = [];
    for (const xattr of sorted(node)) {
      const offset = this.#offsets.get(keyOf(xattr));
      if (offset !== undefined && ids.length < MAX_SHARED_XATTRS) ids.push(offset);
      else own.push(xattr);
    }
    return { ids, own };
  }
}

/** Length of an attribute as it is stored, in `bytes`. */
export function entrySize({ name, value }: Xattr): number {
  const { suffix } = split(name);
  return Math.ceil((XATTR_ENTRY_SIZE + suffix.byteLength + value.byteLength) / XATTR_ALIGNMENT) * XATTR_ALIGNMENT;
}

/** An attribute as it is stored. */
export function encodeEntry(xattr: Xattr): Uint8Array {
  const { index, suffix } = split(xattr.name);
  const bytes = new Uint8Array(entrySize(xattr));
  bytes[XATTR_ENTRY.nameLength] = suffix.byteLength;
  bytes[XATTR_ENTRY.nameIndex] = index;
  new DataView(bytes.buffer).setUint16(XATTR_ENTRY.valueSize, xattr.value.byteLength, true);
  bytes.set(suffix, XATTR_ENTRY_SIZE);
  bytes.set(xattr.value, XATTR_ENTRY_SIZE + suffix.byteLength);
  return bytes;
}

/** The bits that are set stand for names that an inode certainly has not. */
export function nameFilter(node: Node): number {
  let filter = 0xffff_ffff;
  for (const name of node.xattrs.keys()) {
    const { index, suffix } = split(name);
    filter &= ~(1 << (xxh32(suffix, (XATTR_FILTER_SEED + index) >>> 0) % XATTR_FILTER_BITS));
  }
  return filter >>> 0;
}

/** Tells whether EROFS has a number for the beginning of a name; without one nobody could read it. */
export function hasKnownPrefix(name: string): boolean {
  return split(name).index !== 0;
}

/** A name's prefix by its number, and the rest. */
function split(name: string): { readonly index: number; readonly suffix: Uint8Array } {
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
