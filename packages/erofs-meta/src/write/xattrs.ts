import { ErofsError } from "../errors.ts";
import { MAX_SHARED_XATTRS, XATTR_HEADER_SIZE, XATTR_PREFIXES, XATTR_UNIT } from "../format/xattr.ts";
import type { EncodedXattr, Node } from "./node.ts";
import { encodeXattrArea, encodeXattrEntry, xattrAreaSize } from "./xattr-area.ts";

const MAX_NAME_BYTES = 0xff;
const MAX_VALUE_BYTES = 0xffff;
/** `i_xattr_icount` is 16 bits wide. */
const MAX_AREA_BYTES = XATTR_HEADER_SIZE + 0xfffe * XATTR_UNIT;

/** Encodes xattrs, each different one once. */
export class XattrTable {
  readonly #known = new Map<string, EncodedXattr>();

  /** Encodes a node's xattrs, sorted by name. */
  encode(xattrs: Readonly<Record<string, Uint8Array>>, path: string): EncodedXattr[] {
    return Object.keys(xattrs)
      .sort()
      .map((name) => {
        const bytes = encodeEntry(name, xattrs[name] ?? new Uint8Array(0), path);
        const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
        const entry = this.#known.get(key) ?? { bytes, uses: 0 };
        this.#known.set(key, entry);
        entry.uses += 1;
        return entry;
      });
  }

  /** Gives every entry that more than one node has a place in the shared area, and returns the area. */
  share(): Uint8Array {
    const shared = [...this.#known]
      .filter(([, { uses }]) => uses > 1)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, entry]) => entry);
    const area = new Uint8Array(shared.reduce((size, { bytes }) => size + bytes.byteLength, 0));
    let at = 0;
    for (const entry of shared) {
      area.set(entry.bytes, at);
      entry.sharedId = at / XATTR_UNIT;
      at += entry.bytes.byteLength;
    }
    return area;
  }
}

/** Encodes what lies behind a node's inode. */
export function encodeNodeXattrs({ xattrs, path }: Node): Uint8Array {
  if (xattrs.length === 0) return new Uint8Array(0);
  const shared: number[] = [];
  const own: Uint8Array[] = [];
  for (const { sharedId, bytes } of xattrs) {
    if (sharedId !== undefined && shared.length < MAX_SHARED_XATTRS) shared.push(sharedId);
    else own.push(bytes);
  }
  const area = { filter: 0, shared, own };
  const size = xattrAreaSize(area);
  if (size > MAX_AREA_BYTES) {
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected xattrs of at most ${MAX_AREA_BYTES} bytes, got ${size}`, {
      path,
    });
  }
  return encodeXattrArea(area);
}

function encodeEntry(fullName: string, value: Uint8Array, path: string): Uint8Array {
  let found: readonly [number, string] | undefined;
  for (const one of XATTR_PREFIXES) {
    // What is not the start of a namespace is a whole name, and has nothing behind it.
    if (one[1].endsWith(".") ? fullName.startsWith(one[1]) : fullName === one[1]) found = one;
  }
  if (found === undefined) {
    const known = [...XATTR_PREFIXES.values()].join(", ");
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected an xattr name in ${known}, got ${fullName}`, { path });
  }
  const name = new TextEncoder().encode(fullName.slice(found[1].length));
  if (name.byteLength > MAX_NAME_BYTES || name.includes(0)) {
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected an xattr name of at most 255 bytes, got ${fullName}`, {
      path,
    });
  }
  if (value.byteLength > MAX_VALUE_BYTES) {
    const message = `expected at most ${MAX_VALUE_BYTES} bytes of ${fullName}, got ${value.byteLength}`;
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", message, { path });
  }
  return encodeXattrEntry({ index: found[0], suffix: name }, value);
}
