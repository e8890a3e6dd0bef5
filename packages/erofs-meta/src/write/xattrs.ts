import { ErofsError } from "../errors.ts";
import {
  MAX_SHARED_XATTRS,
  XATTR_ALIGNMENT,
  XATTR_HEADER_SIZE,
  XATTR_LONG_PREFIX,
  XATTR_PREFIX,
  XATTR_PREFIXES,
  XATTR_UNIT,
} from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import { FreeRanges } from "./free-ranges.ts";
import type { EncodedXattr, Node } from "./node.ts";
import { encodeXattrArea, encodeXattrEntry, filterBit, type XattrName, xattrAreaSize } from "./xattr-area.ts";

const encoder = new TextEncoder();
const MAX_NAME_BYTES = 0xff;
const MAX_VALUE_BYTES = 0xffff;
/** `i_xattr_icount` is 16 bits wide. */
const MAX_AREA_BYTES = XATTR_HEADER_SIZE + 0xfffe * XATTR_UNIT;

/** The start of names that an image stores once. */
interface LongPrefix {
  /** number of the short prefix it goes on from */
  readonly base: number;
  /** what follows that one */
  readonly infix: Uint8Array;
  /** the whole of it */
  readonly text: string;
}

/** Encodes xattrs, each different one once. */
export class XattrTable {
  readonly #known = new Map<string, EncodedXattr>();
  readonly #prefixes: readonly LongPrefix[];

  /** @param prefixes - starts of names that are stored once */
  constructor(prefixes: readonly string[]) {
    this.#prefixes = prefixes.map((text) => {
      const { index, rest } = shortPrefixOf(text, "/");
      return { base: index, infix: encoder.encode(rest), text };
    });
  }

  /** The table of the long prefixes. */
  encodePrefixes(): Uint8Array {
    const records = this.#prefixes.map(({ base, infix }) => {
      const size = XATTR_PREFIX.infix + infix.byteLength;
      const record = new Uint8Array(Math.ceil(size / XATTR_ALIGNMENT) * XATTR_ALIGNMENT);
      const view = viewOf(record);
      view.setUint16(XATTR_PREFIX.size, size - XATTR_PREFIX.base, true);
      view.setUint8(XATTR_PREFIX.base, base);
      record.set(infix, XATTR_PREFIX.infix);
      return record;
    });
    return new Uint8Array(Buffer.concat(records));
  }

  /** Encodes a node's xattrs, sorted by name. */
  encode(xattrs: Readonly<Record<string, Uint8Array>>, path: string): EncodedXattr[] {
    return Object.keys(xattrs)
      .sort()
      .map((name) => {
        const { index, rest } = shortPrefixOf(name, path);
        const suffix = encoder.encode(rest);
        const value = xattrs[name] ?? new Uint8Array(0);
        assertStorable(name, suffix, value, path);
        const bytes = encodeXattrEntry(this.#shortened(name) ?? { index, suffix }, value);
        const key = encodedText(bytes);
        const entry = this.#known.get(key) ?? { bytes, filterBit: filterBit({ index, suffix }), uses: 0 };
        this.#known.set(key, entry);
        entry.uses += 1;
        return entry;
      });
  }

  /** A name with the longest of the prefixes, if it has one. */
  #shortened(name: string): XattrName | undefined {
    let best = -1;
    for (const [number, { text }] of this.#prefixes.entries()) {
      if (name.startsWith(text) && text.length > (this.#prefixes[best]?.text.length ?? 0)) best = number;
    }
    const text = this.#prefixes[best]?.text;
    if (text === undefined) return undefined;
    return { index: XATTR_LONG_PREFIX | best, suffix: encoder.encode(name.slice(text.length)) };
  }

  /**
   * Gives every entry that more than one node has a place in the shared area, and returns the area.
   *
   * @param old - Where entries were in the shared area of an older image, which they keep whoever has them.
   */
  share(old: ReadonlyMap<string, number> = new Map()): Uint8Array {
    const shared = [...this.#known]
      .filter(([key, { uses }]) => uses > 1 || (uses > 0 && old.has(key)))
      .sort(([a], [b]) => (a < b ? -1 : 1));
    const gaps = new FreeRanges();
    const kept = shared.filter(([key]) => old.has(key)).sort(([a], [b]) => (old.get(a) ?? 0) - (old.get(b) ?? 0));
    let end = 0;
    for (const [key, entry] of kept) {
      const id = old.get(key) ?? 0;
      if (id < end) continue;
      gaps.add(end, id);
      entry.sharedId = id;
      end = id + entry.bytes.byteLength / XATTR_UNIT;
    }
    for (const [, entry] of shared) {
      if (entry.sharedId !== undefined) continue;
      const size = entry.bytes.byteLength / XATTR_UNIT;
      entry.sharedId = gaps.take(size) ?? end;
      if (entry.sharedId === end) end += size;
    }
    const area = new Uint8Array(end * XATTR_UNIT);
    for (const [, { bytes, sharedId = 0 }] of shared) area.set(bytes, sharedId * XATTR_UNIT);
    return area;
  }
}

/** The bytes of an entry as a key of maps. */
export function encodedText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Encodes what lies behind a node's inode. */
export function encodeNodeXattrs({ xattrs, path }: Pick<Node, "xattrs" | "path">): Uint8Array {
  if (xattrs.length === 0) return new Uint8Array(0);
  const shared: number[] = [];
  const own: Uint8Array[] = [];
  let filter = 0xffff_ffff;
  for (const { sharedId, bytes, filterBit: bit } of xattrs) {
    filter &= ~bit;
    if (sharedId !== undefined && shared.length < MAX_SHARED_XATTRS) shared.push(sharedId);
    else own.push(bytes);
  }
  const area = { filter, shared, own };
  const size = xattrAreaSize(area);
  if (size > MAX_AREA_BYTES) {
    throw unrepresentable(path, `expected xattrs of at most ${MAX_AREA_BYTES} bytes, got ${size}`);
  }
  return encodeXattrArea(area);
}

/** The namespace of a name, by its number, and the rest of it. */
function shortPrefixOf(name: string, path: string): { readonly index: number; readonly rest: string } {
  for (const [index, prefix] of XATTR_PREFIXES) {
    // What is not the start of a namespace is a whole name, and has nothing behind it.
    const isIn = prefix.endsWith(".") ? name.startsWith(prefix) : name === prefix;
    if (isIn) return { index, rest: name.slice(prefix.length) };
  }
  const known = [...XATTR_PREFIXES.values()].join(", ");
  throw unrepresentable(path, `expected an xattr name in ${known}, got ${name}`);
}

function assertStorable(name: string, suffix: Uint8Array, value: Uint8Array, path: string): void {
  if (suffix.byteLength > MAX_NAME_BYTES || suffix.includes(0)) {
    throw unrepresentable(path, `expected an xattr name of at most ${MAX_NAME_BYTES} bytes, got ${name}`);
  }
  if (value.byteLength > MAX_VALUE_BYTES) {
    throw unrepresentable(path, `expected at most ${MAX_VALUE_BYTES} bytes of ${name}, got ${value.byteLength}`);
  }
}

function unrepresentable(path: string, message: string): ErofsError {
  return new ErofsError("EROFS_NOT_REPRESENTABLE", message, { path });
}
