import { ErofsError } from "../errors.ts";
import { COMPAT_PLAIN_XATTR_PREFIXES, COMPAT_SHARED_XATTRS_IN_BOX } from "../format/superblock.ts";
import {
  XATTR_ALIGNMENT,
  XATTR_ENTRY,
  XATTR_ENTRY_SIZE,
  XATTR_HEADER,
  XATTR_HEADER_SIZE,
  XATTR_LONG_PREFIX,
  XATTR_PREFIXES,
  XATTR_UNIT,
} from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import type { Steps, Stream } from "../internal/steps.ts";
import { contentOf, type ImageParts } from "./content.ts";
import { type Inode, inodeSteps, inodeTail } from "./inode.ts";

/** One extended attribute. */
export interface Xattr {
  /** full name, such as `security.capability` */
  readonly name: string;
  /** value, the caller's to keep */
  readonly value: Uint8Array;
}

/** Reads the long name prefixes an image defines, `trusted.overlay.` and such. */
export type LongPrefixes = () => Steps<readonly string[]>;

const decoder = new TextDecoder();

/** Lists an inode's xattrs, inline ones first, then the shared ones, each in stored order. */
export function* xattrsOf(image: ImageParts, inode: Inode, longPrefixes: LongPrefixes): Steps<Xattr[]> {
  if (inode.xattrSizeBytes === 0) return [];
  const { area, start, shared } = yield* xattrArea(image, inode);
  const view = viewOf(area);
  const inlineStart = XATTR_HEADER_SIZE + shared.length * XATTR_UNIT;
  const found: Xattr[] = [];
  for (let at = inlineStart; at + XATTR_ENTRY_SIZE <= area.byteLength; ) {
    const { nameLength, valueSize, next } = entrySizes(area, at);
    // Unused room behind the last entry is zero.
    if (nameLength === 0 && valueSize === 0 && view.getUint8(at + XATTR_ENTRY.nameIndex) === 0) break;
    if (at + XATTR_ENTRY_SIZE + nameLength + valueSize > area.byteLength) {
      throw new ErofsError("EROFS_CORRUPT", "expected an inline xattr inside its area, got one that leaves it", {
        offset: start + at,
      });
    }
    found.push(yield* decodeEntry(area.subarray(at), start + at, longPrefixes));
    at = next;
  }
  for (const id of shared) found.push(yield* readShared(image, id, longPrefixes));
  return found;
}

/** What lies behind an inode that has xattrs. */
interface XattrAreaBytes {
  readonly area: Uint8Array;
  /** position in the image, or in the metadata box, in `bytes` */
  readonly start: number;
  /** positions of shared entries in units of 4 bytes, from the start of the shared area */
  readonly shared: readonly number[];
}

/** Reads what lies behind an inode that has xattrs. */
export function* xattrArea(image: ImageParts, inode: Inode): Steps<XattrAreaBytes> {
  const start = inodeTail(inode) - inode.xattrSizeBytes;
  const area = yield* image.metabox.around(inode).read(start, inode.xattrSizeBytes);
  const view = viewOf(area);
  const count = view.getUint8(XATTR_HEADER.sharedCount);
  if (XATTR_HEADER_SIZE + count * XATTR_UNIT > area.byteLength) {
    const message = `expected shared xattr ids inside ${area.byteLength} bytes, got ${count} of them`;
    throw new ErofsError("EROFS_CORRUPT", message, { offset: start + XATTR_HEADER.sharedCount });
  }
  const shared = Array.from({ length: count }, (_, index) =>
    view.getUint32(XATTR_HEADER_SIZE + index * XATTR_UNIT, true),
  );
  return { area, start, shared };
}

/**
 * Reads the table of long name prefixes: length, base prefix, rest; each aligned to 4 bytes. It is in the image, in the
 * metadata box, or in the packed inode.
 */
export function* readLongPrefixes(image: ImageParts): Steps<string[]> {
  const { xattrPrefixCount, xattrPrefixStart, rawFeatures, metaboxNid, packedNid } = image.superblock;
  const holder = metaboxNid === 0n ? packedNid : metaboxNid;
  const isPlain = holder === 0n || (rawFeatures.compat & COMPAT_PLAIN_XATTR_PREFIXES) !== 0;
  const packed = isPlain ? undefined : yield* inodeSteps(image, holder);
  const prefixes: string[] = [];
  let at = xattrPrefixStart * XATTR_UNIT;
  const read = (length: number): Steps<Uint8Array> =>
    packed === undefined
      ? image.metadata.read(at, length)
      : join(contentOf(image, packed, { start: at, end: at + length }), length, packed.offset);
  for (let index = 0; index < xattrPrefixCount; index += 1) {
    const length = viewOf(yield* read(2)).getUint16(0, true);
    at += 2;
    if (length === 0) throw new ErofsError("EROFS_CORRUPT", "expected a long xattr prefix, got none", { offset: at });
    const record = yield* read(length);
    const base = XATTR_PREFIXES.get(record[0] ?? 0) ?? "";
    prefixes.push(base + decoder.decode(record.subarray(1)));
    at = Math.ceil((at + length) / XATTR_ALIGNMENT) * XATTR_ALIGNMENT;
  }
  return prefixes;
}

function* readShared(image: ImageParts, id: number, longPrefixes: LongPrefixes): Steps<Xattr> {
  const { bytes, offset } = yield* sharedEntry(image, id);
  return yield* decodeEntry(bytes, offset, longPrefixes);
}

/** Reads a shared xattr as it is stored, without what fills it up to an alignment. */
export function* sharedEntry(image: ImageParts, id: number): Steps<{ readonly bytes: Uint8Array; offset: number }> {
  const { xattrBlock, blockSize } = image.superblock;
  const metadata = hasSharedXattrsInBox(image) ? yield* image.metabox.open() : image.metadata;
  const offset = xattrBlock * blockSize + id * XATTR_UNIT;
  const { nameLength, valueSize } = entrySizes(yield* metadata.read(offset, XATTR_ENTRY_SIZE), 0);
  return { bytes: yield* metadata.read(offset, XATTR_ENTRY_SIZE + nameLength + valueSize), offset };
}

/** Whether the shared xattrs are in the metadata box. */
export function hasSharedXattrsInBox({ superblock }: ImageParts): boolean {
  return (superblock.rawFeatures.compat & COMPAT_SHARED_XATTRS_IN_BOX) !== 0;
}

function entrySizes(bytes: Uint8Array, at: number): { nameLength: number; valueSize: number; next: number } {
  const view = viewOf(bytes);
  const nameLength = view.getUint8(at + XATTR_ENTRY.nameLength);
  const valueSize = view.getUint16(at + XATTR_ENTRY.valueSize, true);
  const end = at + XATTR_ENTRY_SIZE + nameLength + valueSize;
  return { nameLength, valueSize, next: Math.ceil(end / XATTR_ALIGNMENT) * XATTR_ALIGNMENT };
}

function* decodeEntry(bytes: Uint8Array, offset: number, longPrefixes: LongPrefixes): Steps<Xattr> {
  const { nameLength, valueSize } = entrySizes(bytes, 0);
  const nameIndex = bytes[XATTR_ENTRY.nameIndex] ?? 0;
  const prefix =
    (nameIndex & XATTR_LONG_PREFIX) === 0
      ? XATTR_PREFIXES.get(nameIndex)
      : (yield* longPrefixes())[nameIndex & ~XATTR_LONG_PREFIX];
  if (prefix === undefined) {
    throw new ErofsError("EROFS_CORRUPT", `expected a known xattr prefix, got number ${nameIndex}`, {
      offset: offset + XATTR_ENTRY.nameIndex,
    });
  }
  const valueStart = XATTR_ENTRY_SIZE + nameLength;
  return {
    name: prefix + decoder.decode(bytes.subarray(XATTR_ENTRY_SIZE, valueStart)),
    value: bytes.subarray(valueStart, valueStart + valueSize),
  };
}

function* join(pieces: Stream<Uint8Array>, length: number, offset: number): Steps<Uint8Array> {
  const joined = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    if (piece instanceof Promise) {
      yield piece;
      continue;
    }
    joined.set(piece, at);
    at += piece.byteLength;
  }
  if (at < length) {
    throw new ErofsError("EROFS_TRUNCATED", `expected ${length} bytes of content, got ${at}`, { offset });
  }
  return joined;
}
