import {
  XATTR_ALIGNMENT,
  XATTR_ENTRY,
  XATTR_ENTRY_SIZE,
  XATTR_FILTER_BITS,
  XATTR_FILTER_SEED,
  XATTR_HEADER,
  XATTR_HEADER_SIZE,
  XATTR_UNIT,
} from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import { xxh32 } from "../internal/xxh32.ts";

/** The number of what a name starts with, and the rest of it. */
export interface XattrName {
  readonly index: number;
  readonly suffix: Uint8Array;
}

/** Encodes an xattr as it is stored beside an inode and in the shared area. */
export function encodeXattrEntry({ index, suffix }: XattrName, value: Uint8Array): Uint8Array {
  const size = XATTR_ENTRY_SIZE + suffix.byteLength + value.byteLength;
  const bytes = new Uint8Array(Math.ceil(size / XATTR_ALIGNMENT) * XATTR_ALIGNMENT);
  const view = viewOf(bytes);
  view.setUint8(XATTR_ENTRY.nameLength, suffix.byteLength);
  view.setUint8(XATTR_ENTRY.nameIndex, index);
  view.setUint16(XATTR_ENTRY.valueSize, value.byteLength, true);
  bytes.set(suffix, XATTR_ENTRY_SIZE);
  bytes.set(value, XATTR_ENTRY_SIZE + suffix.byteLength);
  return bytes;
}

/** Bits of an inode's name filter that are clear because it has this name. */
export function filterBit({ index, suffix }: XattrName): number {
  return 1 << (xxh32(suffix, (XATTR_FILTER_SEED + index) >>> 0) % XATTR_FILTER_BITS);
}

/** What lies behind an inode. */
export interface XattrArea {
  /** set bits stand for names that the inode certainly has not */
  readonly filter: number;
  /** positions in the shared area in units of 4 bytes */
  readonly shared: readonly number[];
  /** entries as {@link encodeXattrEntry} makes them */
  readonly own: readonly Uint8Array[];
}

/** Length of the area in `bytes`. */
export function xattrAreaSize({ shared, own }: Pick<XattrArea, "shared" | "own">): number {
  const ownSize = own.reduce((size, { byteLength }) => size + byteLength, 0);
  return XATTR_HEADER_SIZE + shared.length * XATTR_UNIT + ownSize;
}

/** Encodes the area behind an inode: ids of shared entries, then the entries that are its own. */
export function encodeXattrArea(area: XattrArea): Uint8Array {
  const bytes = new Uint8Array(xattrAreaSize(area));
  const view = viewOf(bytes);
  view.setUint32(XATTR_HEADER.nameFilter, area.filter, true);
  view.setUint8(XATTR_HEADER.sharedCount, area.shared.length);
  let at = XATTR_HEADER_SIZE;
  for (const id of area.shared) {
    view.setUint32(at, id, true);
    at += XATTR_UNIT;
  }
  for (const entry of area.own) {
    bytes.set(entry, at);
    at += entry.byteLength;
  }
  return bytes;
}
