import { DiskImageError } from "../errors.ts";
import {
  ATTRIBUTE_DIRECTORY,
  ATTRIBUTE_LONG_NAME,
  ATTRIBUTE_LONG_NAME_MASK,
  ATTRIBUTE_VOLUME_LABEL,
  CASE_LOWER_BASE,
  CASE_LOWER_EXTENSION,
  DIRENT,
  DIRENT_SIZE,
  LONG_NAME,
  LONG_NAME_LAST,
  LONG_NAME_UNITS,
  NAME_END,
  NAME_FREE,
  NAME_KANJI_E5,
} from "../format/fat.ts";
import { copyOf, viewOf } from "../internal/bytes.ts";
import { shortNameChecksum } from "./names.ts";

/** One name in a FAT directory. */
export interface FatEntry {
  /** long name where there is one, otherwise the short one */
  readonly name: string;
  /** short name with a dot */
  readonly shortName: string;
  readonly isDirectory: boolean;
  /** attribute bits as stored */
  readonly attributes: number;
  /** first cluster; 0 for an empty file */
  readonly cluster: number;
  /** length in `bytes`; 0 for a directory */
  readonly sizeBytes: number;
  /** time of the last change, read as UTC; undefined when there is none or it is no date */
  readonly modified: Date | undefined;
}

const latin1 = new TextDecoder("latin1");

/**
 * Decodes the content of a directory, entry by entry: a caller that takes only some of them pays only for those.
 *
 * @param bytes - Whole content; a partial entry at its end is ignored.
 * @param cluster - First cluster, named in errors.
 * @returns Entries in stored order, `.` and `..` included, without the volume label.
 * @throws {DiskImageError} `DISK_CORRUPT` for a name with `/`, NUL or nothing in it.
 * @see Microsoft FAT Specification, sections 6 and 7
 * @example
 * for (const { name } of decodeDirectory(bytes, 2)) console.log(name);
 */
export function* decodeDirectory(bytes: Uint8Array, cluster: number): Generator<FatEntry, undefined> {
  let long: LongName | undefined;
  for (const entry of storedEntries(bytes)) {
    if (isLongName(entry)) long = addPart(long, entry);
    else {
      if (entry[0] !== NAME_FREE && !isLabel(entry)) yield decodeEntry(entry, long, cluster);
      long = undefined;
    }
  }
}

/** Finds the volume label in the content of a root directory. */
export function decodeLabel(bytes: Uint8Array): string | undefined {
  for (const entry of storedEntries(bytes)) {
    if (entry[0] !== NAME_FREE && isLabel(entry) && !isLongName(entry)) {
      return latin1.decode(entry.subarray(0, 11)).trimEnd();
    }
  }
  return undefined;
}

function* storedEntries(bytes: Uint8Array): Generator<Uint8Array, undefined> {
  for (let at = 0; at + DIRENT_SIZE <= bytes.byteLength; at += DIRENT_SIZE) {
    if (bytes[at] === NAME_END) return;
    yield bytes.subarray(at, at + DIRENT_SIZE);
  }
}

function isLongName(entry: Uint8Array): boolean {
  const attributes = entry[DIRENT.attributes] ?? 0;
  return entry[0] !== NAME_FREE && (attributes & ATTRIBUTE_LONG_NAME_MASK) === ATTRIBUTE_LONG_NAME;
}

function isLabel(entry: Uint8Array): boolean {
  return ((entry[DIRENT.attributes] ?? 0) & ATTRIBUTE_VOLUME_LABEL) !== 0;
}

interface LongName {
  /** parts in the order they are stored, which is backwards */
  readonly parts: readonly string[];
  readonly checksum: number;
  /** number of the part that has to come next; 0 when it is complete */
  readonly missing: number;
}

/** Parts that do not continue what was before are dropped, as other systems do: the short name remains. */
function addPart(long: LongName | undefined, entry: Uint8Array): LongName | undefined {
  const order = entry[LONG_NAME.order] ?? 0;
  const number = order & ~LONG_NAME_LAST;
  const checksum = entry[LONG_NAME.checksum] ?? 0;
  const view = viewOf(entry);
  const part = String.fromCharCode(...LONG_NAME_UNITS.map((at) => view.getUint16(at, true)));
  if ((order & LONG_NAME_LAST) !== 0) {
    if (number < 1 || number > 20) return undefined;
    return { parts: [part], checksum, missing: number - 1 };
  }
  if (long === undefined || number !== long.missing || number < 1 || checksum !== long.checksum) return undefined;
  return { parts: [...long.parts, part], checksum, missing: number - 1 };
}

function decodeEntry(entry: Uint8Array, long: LongName | undefined, cluster: number): FatEntry {
  const view = viewOf(entry);
  const attributes = view.getUint8(DIRENT.attributes);
  const isDirectory = (attributes & ATTRIBUTE_DIRECTORY) !== 0;
  const shortName = decodeShort(entry);
  const isComplete = long !== undefined && long.missing === 0 && long.checksum === shortNameChecksum(entry);
  const name = isComplete ? joinLong(long.parts) : shortName;
  if (name === "" || name.includes("/") || name.includes("\0")) {
    throw new DiskImageError(
      "DISK_CORRUPT",
      `expected a name in the directory at cluster ${cluster}, got ${JSON.stringify(name)}`,
    );
  }
  return {
    name,
    shortName,
    isDirectory,
    attributes,
    cluster: view.getUint16(DIRENT.clusterHigh, true) * 0x1_0000 + view.getUint16(DIRENT.clusterLow, true),
    sizeBytes: isDirectory ? 0 : view.getUint32(DIRENT.size, true),
    modified: decodeTime(view.getUint16(DIRENT.writtenDate, true), view.getUint16(DIRENT.writtenTime, true)),
  };
}

function joinLong(parts: readonly string[]): string {
  const joined = parts.toReversed().join("");
  const end = joined.indexOf("\0");
  return end === -1 ? joined : joined.slice(0, end);
}

function decodeShort(entry: Uint8Array): string {
  const raw = copyOf(entry.subarray(0, 11));
  if (raw[0] === NAME_KANJI_E5) raw[0] = NAME_FREE;
  const flags = entry[DIRENT.caseFlags] ?? 0;
  const fold = (text: string, flag: number): string => ((flags & flag) === 0 ? text : text.toLowerCase());
  const base = fold(latin1.decode(raw.subarray(0, 8)).trimEnd(), CASE_LOWER_BASE);
  const extension = fold(latin1.decode(raw.subarray(8, 11)).trimEnd(), CASE_LOWER_EXTENSION);
  return extension === "" ? base : `${base}.${extension}`;
}

function decodeTime(date: number, time: number): Date | undefined {
  const month = (date >> 5) & 0xf;
  const day = date & 0x1f;
  if (month < 1 || month > 12 || day < 1) return undefined;
  return new Date(Date.UTC(1980 + (date >> 9), month - 1, day, time >> 11, (time >> 5) & 0x3f, (time & 0x1f) * 2));
}
