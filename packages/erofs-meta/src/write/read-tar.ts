import { ErofsError } from "../errors.ts";
import { PAX_SPARSE, PAX_XATTR, TAR, TAR_BLOCK_SIZE, TAR_POSIX_MAGIC, TAR_TYPES } from "../format/tar.ts";
import { isZero } from "../internal/bytes.ts";
import { nameText } from "../internal/names.js";
import { DEFAULT_MAX_TAR_HEADER_BYTES } from "../options.ts";
import type { ByteReader } from "./byte-reader.ts";
import type { TreeAttributes, TreeEntry } from "./entry.ts";
import { headerSum, openArchive } from "./open-archive.ts";

/** What extended headers say of the entry behind them. */
type Extended = Map<string, Uint8Array>;

/** Where in the archive something is. */
interface Place {
  /** position of the header in `bytes` */
  readonly start: number;
  /** name of the member, as far as it is known */
  readonly path?: string;
}

const SIGNED_FIELD = 0x80;
/** What follows the end of an archive and is read nevertheless: a program that pads its output would fail otherwise. */
const MAX_PADDING_BYTES = 1024 * 1024;

/**
 * Streams a tar archive as entries for `writeErofs`: POSIX `ustar` and `pax`, and GNU's long names and large numbers, as
 * it is or compressed with gzip. Xattrs come from pax records, as GNU tar and bsdtar write them. A file's content has to
 * be read, if at all, before the next entry is asked for.
 *
 * Of several members with one path, as `tar --append` makes them, the last one counts, as when the archive is extracted;
 * contents of the others are in the image without anything that refers to them.
 *
 * @param archive - The archive, in pieces of any size.
 * @throws {ErofsError} `EROFS_BAD_TAR` for an archive that is damaged, ends early, or is compressed with something else,
 *   `EROFS_UNSUPPORTED` for sparse files and continued volumes, `EROFS_LIMIT` for extended headers of a member over
 *   {@link DEFAULT_MAX_TAR_HEADER_BYTES}; with the name of the member as `path`.
 * @see POSIX.1-2017, `pax`
 * @example
 * await writeErofs(readTar(createReadStream("root.tar")), options);
 */
export async function* readTar(archive: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<TreeEntry> {
  const reader = await openArchive(archive);
  try {
    const global: Extended = new Map();
    let own: Extended = new Map();
    let ownBytes = 0;
    let behind = "";
    for (;;) {
      const start = reader.offset;
      const header = await exactly(reader, TAR_BLOCK_SIZE, `a header or two blocks of zeros${behind}`);
      if (isZero(header)) {
        let padding = 0;
        for await (const piece of reader.stream(MAX_PADDING_BYTES)) padding += piece.byteLength;
        // An archive of nothing is a record of zeros; what goes on with them is none.
        if (behind === "" && padding === MAX_PADDING_BYTES) {
          throw bad(`expected a tar archive, got ${MAX_PADDING_BYTES} bytes of zeros and more`, { start });
        }
        return;
      }
      assertChecksum(header, start, behind);
      const type = String.fromCharCode(header[TAR.type[0]] ?? 0);
      const extended: Extended = new Map([...global, ...own]);
      const place: Place = { start, path: nameIn(header, extended) };
      const size = numberIn(extended, "size") ?? integer(header, "size", place);
      if (!Number.isSafeInteger(size) || size < 0) {
        throw bad(`expected a size, got ${size}`, place, TAR.size[0]);
      }

      if (type === TAR_TYPES.paxGlobal) {
        for (const [key, value] of paxRecords(await extendedHeader(reader, size), { start })) {
          // A part of the header would keep all of it.
          global.set(key, Uint8Array.from(value));
        }
        assertHeaderBytes(bytesOf(global), start);
        continue;
      }
      if (type === TAR_TYPES.pax) {
        ownBytes += size;
        assertHeaderBytes(ownBytes, start);
        for (const [key, value] of paxRecords(await extendedHeader(reader, size), { start })) own.set(key, value);
        continue;
      }
      if (type === TAR_TYPES.gnuLongName || type === TAR_TYPES.gnuLongLink) {
        const text = await extendedHeader(reader, size);
        const end = text.indexOf(0);
        own.set(type === TAR_TYPES.gnuLongName ? "path" : "linkpath", end === -1 ? text : text.subarray(0, end));
        continue;
      }
      own = new Map();
      ownBytes = 0;
      behind = ` behind ${place.path}`;
      const content = contentOf(reader, size, place);
      yield entryOf(type, header, extended, content, place);
      await content.finish();
    }
  } finally {
    await reader.close();
  }
}

function entryOf(
  type: string,
  header: Uint8Array,
  extended: Extended,
  content: { readonly sizeBytes: number; read(): AsyncIterable<Uint8Array> },
  place: Place,
): TreeEntry {
  if (type === TAR_TYPES.gnuSparse || [...extended.keys()].some((key) => key.startsWith(PAX_SPARSE))) {
    throw new ErofsError("EROFS_UNSUPPORTED", "cannot read sparse files in tar archives", {
      ...factsOf(place),
      hint: "make the archive without --sparse",
    });
  }
  const attributes = { ...attributesOf(header, extended, place), replaces: true };
  const target = (): string => textIn(extended, "linkpath") ?? text(header, "linkName");
  switch (type) {
    case TAR_TYPES.file:
    case TAR_TYPES.oldFile:
    case TAR_TYPES.contiguousFile:
      // Before POSIX, a directory was a file with a slash behind its name.
      if (attributes.path.endsWith("/")) return { type: "directory", ...attributes };
      return { type: "file", ...attributes, content };
    case TAR_TYPES.hardLink:
      return { type: "link", path: attributes.path, target: target(), replaces: true };
    case TAR_TYPES.symlink:
      return { type: "symlink", ...attributes, target: target() };
    case TAR_TYPES.directory:
      return { type: "directory", ...attributes };
    case TAR_TYPES.fifo:
      return { type: "fifo", ...attributes };
    case TAR_TYPES.char:
    case TAR_TYPES.block: {
      const device = { major: integer(header, "deviceMajor", place), minor: integer(header, "deviceMinor", place) };
      return { type: type === TAR_TYPES.char ? "char" : "block", ...attributes, device };
    }
    default: {
      const message = `cannot read tar entries of type ${JSON.stringify(type)}`;
      throw new ErofsError("EROFS_UNSUPPORTED", message, { ...factsOf(place), offset: place.start + TAR.type[0] });
    }
  }
}

function attributesOf(header: Uint8Array, extended: Extended, place: Place): TreeAttributes {
  const isPosix = text(header, "magic", false) === TAR_POSIX_MAGIC;
  const prefix = isPosix ? text(header, "prefix") : "";
  const name = text(header, "name");
  const xattrs: Record<string, Uint8Array> = Object.create(null);
  for (const [key, value] of extended) {
    if (key.startsWith(PAX_XATTR)) xattrs[xattrName(key.slice(PAX_XATTR.length))] = value;
  }
  return {
    path: textIn(extended, "path") ?? (prefix === "" ? name : `${prefix}/${name}`),
    mode: integer(header, "mode", place) & 0o7777,
    uid: numberIn(extended, "uid") ?? integer(header, "uid", place),
    gid: numberIn(extended, "gid") ?? integer(header, "gid", place),
    ...(timeIn(extended, place) ?? { mtime: BigInt(integer(header, "mtime", place)), mtimeNsec: 0 }),
    xattrs,
  };
}

/** Content that is skipped where nobody reads it. */
function contentOf(
  reader: ByteReader,
  sizeBytes: number,
  { path }: Place,
): {
  readonly sizeBytes: number;
  read(): AsyncGenerator<Uint8Array>;
  finish(): Promise<void>;
} {
  let left = sizeBytes;
  async function* read(): AsyncGenerator<Uint8Array> {
    while (left > 0) {
      let isEmpty = true;
      for await (const piece of reader.stream(left)) {
        isEmpty = false;
        left -= piece.byteLength;
        yield piece;
      }
      if (isEmpty) {
        const message = `expected ${left} more bytes of content, got the end of the archive`;
        throw bad(message, { start: reader.offset, ...(path !== undefined && { path }) });
      }
    }
  }
  return {
    sizeBytes,
    read,
    async finish() {
      for await (const _ of read());
      await exactly(reader, paddingBehind(sizeBytes), "padding");
    },
  };
}

/** GNU tar writes the two characters of a name that a record cannot have, or that stand for others, in this way. */
function xattrName(text: string): string {
  return text.replace(/%3D|%25/g, (code) => (code === "%3D" ? "=" : "%"));
}

/** @param size - Of one extended header, or of all that are about the same member, in `bytes`. */
function assertHeaderBytes(size: number, offset: number): void {
  if (size <= DEFAULT_MAX_TAR_HEADER_BYTES) return;
  const message = `expected extended headers of at most ${DEFAULT_MAX_TAR_HEADER_BYTES} bytes, got ${size}`;
  throw new ErofsError("EROFS_LIMIT", message, { offset });
}

function bytesOf(extended: Extended): number {
  return [...extended].reduce((sum, [key, { byteLength }]) => sum + key.length + byteLength, 0);
}

async function extendedHeader(reader: ByteReader, size: number): Promise<Uint8Array> {
  assertHeaderBytes(size, reader.offset);
  const bytes = await exactly(reader, size, "an extended header");
  await exactly(reader, paddingBehind(size), "padding");
  return bytes;
}

function paddingBehind(size: number): number {
  return (TAR_BLOCK_SIZE - (size % TAR_BLOCK_SIZE)) % TAR_BLOCK_SIZE;
}

async function exactly(reader: ByteReader, length: number, what: string): Promise<Uint8Array> {
  const bytes = await reader.take(length);
  if (bytes.byteLength < length) {
    throw bad(`expected ${what}, got the end of the archive`, { start: reader.offset });
  }
  return bytes;
}

function assertChecksum(header: Uint8Array, start: number, behind: string): void {
  const stored = integer(header, "checksum", { start });
  const sum = headerSum(header);
  if (stored !== sum) {
    const message = `expected a header${behind} with the checksum ${stored}, got ${sum}`;
    throw bad(message, { start }, TAR.checksum[0]);
  }
}

/** The name of a member for messages, which needs no more than to be recognised. */
function nameIn(header: Uint8Array, extended: Extended): string {
  const [from, length] = TAR.name;
  const bytes = extended.get("path") ?? header.subarray(from, from + length);
  return new TextDecoder().decode(bytes).replace(/\0.*$/s, "");
}

/** `length key=value\n`, the length counting itself and the line feed. */
function* paxRecords(bytes: Uint8Array, place: Place): Generator<[string, Uint8Array]> {
  for (let at = 0; at < bytes.byteLength; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space === -1 ? "" : Buffer.from(bytes.subarray(at, space)).toString("latin1");
    const length = /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    if (length === 0 || end > bytes.byteLength || bytes[end - 1] !== 0x0a || equals === -1 || equals >= end) {
      throw bad(`expected a pax record, got something else ${at} bytes into the header behind`, place);
    }
    yield [Buffer.from(bytes.subarray(space + 1, equals)).toString("utf8"), bytes.slice(equals + 1, end - 1)];
    at = end;
  }
}

type Field = keyof typeof TAR;

/** A number in octal digits or, marked by the highest bit, in 256s. */
function integer(header: Uint8Array, field: Field, place: Place): number {
  const [from, length] = TAR[field];
  const bytes = header.subarray(from, from + length);
  if (((bytes[0] ?? 0) & SIGNED_FIELD) !== 0) {
    const unsigned = BigInt(`0x${Buffer.from(bytes).toString("hex")}`) & ((1n << BigInt(length * 8 - 1)) - 1n);
    const value = Number(BigInt.asIntN(length * 8 - 1, unsigned));
    if (Number.isSafeInteger(value)) return value;
    throw bad(`expected a number below 2^53 as ${field}, got ${value}`, place, from);
  }
  const digits = Buffer.from(bytes).toString("latin1").replace(/\0.*$/s, "").trim();
  if (!/^[0-7]*$/.test(digits)) {
    throw bad(`expected octal digits as ${field}, got ${JSON.stringify(digits)}`, place, from);
  }
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function text(header: Uint8Array, field: Field, isTerminated = true): string {
  const [from, length] = TAR[field];
  const bytes = header.subarray(from, from + length);
  const end = bytes.indexOf(0);
  return nameText(isTerminated && end !== -1 ? bytes.subarray(0, end) : bytes);
}

function textIn(extended: Extended, key: string): string | undefined {
  const value = extended.get(key);
  return value === undefined ? undefined : nameText(value);
}

function numberIn(extended: Extended, key: string): number | undefined {
  const value = extended.get(key);
  return value === undefined ? undefined : Number(Buffer.from(value).toString("latin1"));
}

/** Seconds with a fraction, which counts towards the future before 1970 too. */
function timeIn(extended: Extended, place: Place): { mtime: bigint; mtimeNsec: number } | undefined {
  const value = extended.get("mtime");
  if (value === undefined) return undefined;
  const match = /^(-?\d{1,19})(?:\.(\d*))?$/.exec(Buffer.from(value).toString("latin1"));
  if (match === null) throw bad("expected a decimal number as mtime, got something else", place);
  return { mtime: BigInt(match[1] ?? "0"), mtimeNsec: Number((match[2] ?? "").padEnd(9, "0").slice(0, 9)) };
}

/** @param from - position in the header in `bytes` */
function bad(message: string, place: Place, from = 0): ErofsError {
  return new ErofsError("EROFS_BAD_TAR", message, { ...factsOf(place), offset: place.start + from });
}

function factsOf({ start, path }: Place): { offset: number; path?: string } {
  return { offset: start, ...(path !== undefined && { path }) };
}
