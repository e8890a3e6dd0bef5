import { DiskImageError } from "../errors.ts";
import {
  ATTRIBUTE_LONG_NAME,
  DIRENT_SIZE,
  LONG_NAME,
  LONG_NAME_LAST,
  LONG_NAME_UNITS,
  MAX_LONG_NAME_UNITS,
} from "../format/fat.ts";
import { viewOf } from "../internal/bytes.ts";

const FORBIDDEN = /["*/:<>?\\|\p{Cc}]/u;
const SHORT_NAME = /^[A-Z0-9!#$%&'()@^_`{}~-]{1,8}(\.[A-Z0-9!#$%&'()@^_`{}~-]{1,3})?$/;
const NOT_SHORT = /[^A-Z0-9!#$%&'()@^_`{}~-]/g;
/** half of a character: with the `u` flag only lone ones match */
const LONE_SURROGATE = /\p{Cs}/u;
const SHORT_SIZE = 11;
const BASE_SIZE = 8;
const EXTENSION_SIZE = SHORT_SIZE - BASE_SIZE;

/** Splits a path into names and refuses what FAT cannot hold. */
export function splitPath(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "");
  if (names.length === 0)
    throw new DiskImageError("DISK_BAD_NAME", `expected a path with a name, got ${JSON.stringify(path)}`, { path });
  for (const name of names) assertName(name, path);
  return names;
}

function assertName(name: string, path: string): void {
  if (name === "." || name === ".." || FORBIDDEN.test(name) || /[. ]$/.test(name)) {
    const message = `expected a name without control characters, "*/:<>?\\| and a dot or blank at its end, got ${JSON.stringify(name)}`;
    throw new DiskImageError("DISK_BAD_NAME", message, { path });
  }
  if (name.length > MAX_LONG_NAME_UNITS || LONE_SURROGATE.test(name)) {
    const message = `expected a name of at most ${MAX_LONG_NAME_UNITS} UTF-16 units, got ${name.length}`;
    throw new DiskImageError("DISK_BAD_NAME", message, { path });
  }
}

/** Names that differ only in case are one name to FAT. */
export function foldName(name: string): string {
  return name.toUpperCase();
}

/** The two names a directory stores for one file. */
export interface StoredName {
  /** 11 bytes, base and extension filled up with blanks */
  readonly short: Uint8Array;
  /** entries in front of the short one: 0 when the short name says it all */
  readonly longEntries: number;
}

/**
 * Chooses short names for the names of one directory, in the order given, so that none appears twice.
 *
 * @see Microsoft FAT Specification, section 7.4 "Name Limits and Character Sets", basis-name generation
 */
export function chooseShortNames(names: readonly string[]): StoredName[] {
  const taken = new Set<string>(names.filter((name) => SHORT_NAME.test(name)).map(padShort));
  const nextTail = new Map<string, number>();
  return names.map((name) => {
    if (SHORT_NAME.test(name)) return { short: encodeShort(padShort(name)), longEntries: 0 };
    const short = basisName(name, taken, nextTail);
    taken.add(short);
    return { short: encodeShort(short), longEntries: Math.ceil(name.length / LONG_NAME_UNITS.length) };
  });
}

function basisName(name: string, taken: ReadonlySet<string>, nextTail: Map<string, number>): string {
  const upper = name.toUpperCase();
  // A name that only was in lower case keeps its letters, as other systems do it.
  if (SHORT_NAME.test(upper) && !taken.has(padShort(upper))) return padShort(upper);
  const bare = upper.replaceAll(" ", "").replace(/^\.+/, "");
  const dot = bare.lastIndexOf(".");
  const clean = (text: string): string => text.replaceAll(".", "").replaceAll(NOT_SHORT, "_");
  const base = clean(dot === -1 ? bare : bare.slice(0, dot)).slice(0, BASE_SIZE) || "_";
  const extension = clean(dot === -1 ? "" : bare.slice(dot + 1))
    .padEnd(EXTENSION_SIZE)
    .slice(0, EXTENSION_SIZE);
  // Counting on from the last number keeps a directory of thousands of alike names from taking hours.
  const key = base + extension;
  for (let number = nextTail.get(key) ?? 1; ; number += 1) {
    const tail = `~${number}`;
    const short = (base.slice(0, BASE_SIZE - tail.length) + tail).padEnd(BASE_SIZE) + extension;
    if (taken.has(short)) continue;
    nextTail.set(key, number + 1);
    return short;
  }
}

function padShort(name: string): string {
  const [base = "", extension = ""] = name.split(".");
  return base.padEnd(BASE_SIZE) + extension.padEnd(EXTENSION_SIZE);
}

function encodeShort(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Encodes the entries in front of a short name, last part of the name first. */
export function encodeLongName(name: string, short: Uint8Array): Uint8Array {
  const perEntry = LONG_NAME_UNITS.length;
  const count = Math.ceil(name.length / perEntry);
  const bytes = new Uint8Array(count * DIRENT_SIZE);
  const checksum = shortNameChecksum(short);
  for (let part = 0; part < count; part += 1) {
    const entry = bytes.subarray((count - 1 - part) * DIRENT_SIZE, (count - part) * DIRENT_SIZE);
    const view = viewOf(entry);
    entry[LONG_NAME.order] = (part + 1) | (part === count - 1 ? LONG_NAME_LAST : 0);
    entry[LONG_NAME.attributes] = ATTRIBUTE_LONG_NAME;
    entry[LONG_NAME.checksum] = checksum;
    for (const [index, at] of LONG_NAME_UNITS.entries()) {
      const unit = part * perEntry + index;
      // A name that does not fill its last entry ends with one zero, and ones fill the rest.
      const code = unit < name.length ? name.charCodeAt(unit) : unit === name.length ? 0 : 0xffff;
      view.setUint16(at, code, true);
    }
  }
  return bytes;
}

/** Ties long-name entries to the short name they belong to. */
export function shortNameChecksum(short: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < SHORT_SIZE; index += 1)
    sum = (((sum & 1) << 7) + (sum >> 1) + (short[index] ?? 0)) & 0xff;
  return sum;
}

/** Encodes a volume label. */
export function encodeVolumeLabel(label: string): Uint8Array {
  if (!/^[A-Z0-9 !#$%&'()@^_`{}~-]{1,11}$/.test(label) || label.startsWith(" ")) {
    const message = `expected a volume label of 1..11 characters A-Z, 0-9, blank or !#$%&'()-@^_\`{}~, got ${JSON.stringify(label)}`;
    throw new DiskImageError("DISK_BAD_NAME", message);
  }
  return encodeShort(label.padEnd(SHORT_SIZE));
}
