import { ErofsError } from "../errors.ts";
import { DIRENT, DIRENT_SIZE, DIRENT_TYPES, MAX_NAME_BYTES } from "../format/directory.ts";
import { viewOf } from "../internal/bytes.ts";
import { nameText } from "../internal/names.js";

/** One name in a directory. */
export interface DirectoryEntry {
  /** name as text; a byte that is no part of UTF-8 is half a character, U+DC80 to U+DCFF */
  readonly name: string;
  /** name as stored, 1..255 bytes; aliases the decoded block */
  readonly nameBytes: Uint8Array;
  /** node number of the inode */
  readonly nid: bigint;
  /** file type as the directory says it; the inode's own type is authoritative */
  readonly type: (typeof DIRENT_TYPES)[number];
}

const SLASH = 0x2f;

/**
 * Decodes one directory block.
 *
 * @param block - One block of a directory's content, or what is left of it in the last one.
 * @param offset - Its position in the image, used in errors.
 * @returns The entries in stored order, `.` and `..` included.
 * @throws {ErofsError} `EROFS_TRUNCATED` or `EROFS_CORRUPT` when name offsets leave the block or run backwards, or a name
 *   is empty, too long or contains `/`.
 * @see Linux v6.12 `fs/erofs/dir.c`
 * @example
 * const names = decodeDirectoryBlock(block, 4096).map((entry) => entry.name);
 */
export function decodeDirectoryBlock(block: Uint8Array, offset: number): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  const view = viewOf(block);
  scanDirectoryBlock({ bytes, view, start: 0, length: block.byteLength, offset }, (name, at, from, to) => {
    entries.push({
      name,
      nameBytes: block.subarray(from, to),
      nid: view.getBigUint64(at + DIRENT.nid, true),
      type: DIRENT_TYPES[view.getUint8(at + DIRENT.fileType)] ?? "unknown",
    });
  });
  return entries;
}

/** A directory block inside of other bytes. */
export interface BlockPlace {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** where the block starts in `bytes` */
  readonly start: number;
  readonly length: number;
  /** where it is for people, used in errors */
  readonly offset: number;
}

/** Calls `visit` with each name, the place of its entry, and where it starts and ends. */
export function scanDirectoryBlock(
  { bytes, view, start: origin, length, offset }: BlockPlace,
  visit: (name: string, at: number, from: number, to: number) => void,
): void {
  if (length < DIRENT_SIZE) {
    throw new ErofsError("EROFS_TRUNCATED", `expected ${DIRENT_SIZE} bytes of directory block, got ${length}`, {
      offset,
    });
  }
  // The first name starts where the array of entries ends, so it gives their count.
  const firstName = view.getUint16(origin + DIRENT.nameOffset, true);
  if (firstName < DIRENT_SIZE || firstName % DIRENT_SIZE !== 0 || firstName >= length) {
    const message = `expected a first name offset that is a multiple of 12 inside ${length} bytes, got ${firstName}`;
    throw new ErofsError("EROFS_CORRUPT", message, { offset: offset + DIRENT.nameOffset });
  }
  const names = new Uint8Array(view.buffer, view.byteOffset + origin + firstName, length - firstName);
  // The last name of a block has no successor: it ends at a NUL or with the block.
  const end = firstName + endOfNames(names);
  const slash = names.indexOf(SLASH);
  if (slash !== -1 && firstName + slash < end) {
    const message = "expected a name without '/' and NUL, got one with it";
    throw new ErofsError("EROFS_CORRUPT", message, { offset: offset + firstName + slash });
  }
  // One call decodes all names; where every byte is a character, they are cut from that.
  const text = bytes.toString("utf8", origin + firstName, origin + end);
  const isByteWise = text.length === end - firstName && !text.includes("\ufffd");
  let start = firstName;
  for (let position = 0; position < firstName; position += DIRENT_SIZE) {
    const next = position + DIRENT_SIZE;
    const limit = next < firstName ? view.getUint16(origin + next + DIRENT.nameOffset, true) : end;
    if (limit > end || limit <= start || limit - start > MAX_NAME_BYTES) {
      const message = `expected a name of 1..255 bytes without NUL in its block, got ${start}..${limit}`;
      throw new ErofsError("EROFS_CORRUPT", message, { offset: offset + position });
    }
    const name = isByteWise
      ? text.slice(start - firstName, limit - firstName)
      : nameText(bytes.subarray(origin + start, origin + limit));
    visit(name, origin + position, origin + start, origin + limit);
    start = limit;
  }
}

/** Names have no NUL in them. */
function endOfNames(names: Uint8Array): number {
  const end = names.indexOf(0);
  return end === -1 ? names.byteLength : end;
}
