import { ErofsError } from "../errors.ts";
import { DIRENT, DIRENT_SIZE, DIRENT_TYPES, MAX_NAME_BYTES } from "../format/directory.ts";
import { assertLength, viewOf } from "../internal/bytes.ts";

/** One name in a directory. */
export interface DirectoryEntry {
  /** name as text; bytes that are not UTF-8 are replaced, `nameBytes` has the truth */
  readonly name: string;
  /** name as stored, 1..255 bytes; aliases the decoded block */
  readonly nameBytes: Uint8Array;
  /** node number of the inode */
  readonly nid: bigint;
  /** file type as the directory says it; the inode's own type is authoritative */
  readonly type: (typeof DIRENT_TYPES)[number];
}

const decoder = new TextDecoder();
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
  assertLength(block, DIRENT_SIZE, "directory block", offset);
  const view = viewOf(block);
  // The first name starts where the array of entries ends, so it gives their count.
  const firstName = view.getUint16(DIRENT.nameOffset, true);
  if (firstName < DIRENT_SIZE || firstName % DIRENT_SIZE !== 0 || firstName >= block.byteLength) {
    const message = `expected a first name offset that is a multiple of 12 inside ${block.byteLength} bytes, got ${firstName}`;
    throw new ErofsError("EROFS_CORRUPT", message, { offset: offset + DIRENT.nameOffset });
  }
  const entries: DirectoryEntry[] = [];
  for (let position = 0; position < firstName; position += DIRENT_SIZE) {
    const start = view.getUint16(position + DIRENT.nameOffset, true);
    const next = position + DIRENT_SIZE;
    const end = next < firstName ? view.getUint16(next + DIRENT.nameOffset, true) : lastNameEnd(block, start);
    if (start < firstName || end > block.byteLength || end <= start || end - start > MAX_NAME_BYTES) {
      throw new ErofsError("EROFS_CORRUPT", `expected a name of 1..255 bytes in its block, got ${start}..${end}`, {
        offset: offset + position,
      });
    }
    const nameBytes = block.subarray(start, end);
    if (nameBytes.includes(SLASH) || nameBytes.includes(0)) {
      throw new ErofsError("EROFS_CORRUPT", "expected a name without '/' and NUL, got one with it", {
        offset: offset + start,
      });
    }
    entries.push({
      name: decoder.decode(nameBytes),
      nameBytes,
      nid: view.getBigUint64(position + DIRENT.nid, true),
      type: DIRENT_TYPES[view.getUint8(position + DIRENT.fileType)] ?? "unknown",
    });
  }
  return entries;
}

/** The last name of a block has no successor: it ends at a NUL or with the block. */
function lastNameEnd(block: Uint8Array, start: number): number {
  const end = block.indexOf(0, start);
  return end === -1 ? block.byteLength : end;
}
