import { ErofsError } from "../errors.ts";
import { PAX_SPARSE, PAX_XATTR, TAR, TAR_BLOCK_SIZE, TAR_POSIX_MAGIC, TAR_TYPES } from "../format/tar.ts";
import { isZero } from "../internal/bytes.ts";
import { DEFAULT_MAX_TAR_HEADER_BYTES } from "../options.ts";
import { ByteReader } from "./byte-reader.ts";
import type { TreeAttributes, TreeEntry } from "./entry.ts";

/** What extended headers say of the entry behind them. */
type Extended = Map<string, Uint8Array>;

const SIGNED_FIELD = 0x80;

/**
 * Streams a tar archive as entries for `writeErofs`: POSIX `ustar` and `pax`, and GNU's long names and large numbers.
 * Xattrs come from pax records, as GNU tar and bsdtar write them. A file's content has to be read, if at all, before the
 * next entry is asked for.
 *
 * @param archive - The archive, uncompressed, in pieces of any size.
 * @throws {ErofsError} `EROFS_BAD_TAR` for an archive that is damaged or ends early, `EROFS_UNSUPPORTED` for sparse files
 *   and continued volumes, `EROFS_LIMIT` for an extended header over {@link DEFAULT_MAX_TAR_HEADER_BYTES}.
 * @see POSIX.1-2017, `pax`
 * @example
 * await writeErofs(readTar(createReadStream("root.tar")), options);
 */
export async function* readTar(archive: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<TreeEntry> {
  const reader = new ByteReader(archive);
  try {
    const global: Extended = new Map();
    let own: Extended = new Map();
    for (;;) {
      const start = reader.offset;
      const header = await exactly(reader, TAR_BLOCK_SIZE, "a header or two blocks of zeros");
      if (isZero(header)) return;
      assertChecksum(header, start);
      const type = String.fromCharCode(header[TAR.type[0]] ?? 0);
      const extended: Extended = new Map([...global, ...own]);
      const size = numberIn(extended, "size") ?? integer(header, "size", start);
      if (!Number.isSafeInteger(size) || size < 0) throw bad(`expected a size, got ${size}`, start + TAR.size[0]);

      if (type === TAR_TYPES.pax || type === TAR_TYPES.paxGlobal) {
        for (const [key, value] of paxRecords(await extendedHeader(reader, size), start)) {
          (type === TAR_TYPES.pax ? own : global).set(key, value);
        }
        continue;
      }
      if (type === TAR_TYPES.gnuLongName || type === TAR_TYPES.gnuLongLink) {
        const text = await extendedHeader(reader, size);
        const end = text.indexOf(0);
        own.set(type === TAR_TYPES.gnuLongName ? "path" : "linkpath", end === -1 ? text : text.subarray(0, end));
        continue;
      }
      own = new Map();
      const content = contentOf(reader, size);
      yield entryOf(type, header, extended, content, start);
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
  start: number,
): TreeEntry {
  for (const key of extended.keys()) {
    if (key.startsWith(PAX_SPARSE)) {
      throw new ErofsError("EROFS_UNSUPPORTED", "cannot read sparse files in tar archives", { offset: start });
    }
  }
  const attributes = attributesOf(header, extended, start);
  const target = (): string => textIn(extended, "linkpath", start) ?? text(header, "linkName", start);
  switch (type) {
    case TAR_TYPES.file:
    case TAR_TYPES.oldFile:
    case TAR_TYPES.contiguousFile:
      // Before POSIX, a directory was a file with a slash behind its name.
      if (attributes.path.endsWith("/")) return { type: "directory", ...attributes };
      return { type: "file", ...attributes, content };
    case TAR_TYPES.hardLink:
      return { type: "link", path: attributes.path, target: target() };
    case TAR_TYPES.symlink:
      return { type: "symlink", ...attributes, target: target() };
    case TAR_TYPES.directory:
      return { type: "directory", ...attributes };
    case TAR_TYPES.fifo:
      return { type: "fifo", ...attributes };
    case TAR_TYPES.char:
    case TAR_TYPES.block: {
      const device = { major: integer(header, "deviceMajor", start), minor: integer(header, "deviceMinor", start) };
      return { type: type === TAR_TYPES.char ? "char" : "block", ...attributes, device };
    }
    default:
      throw new ErofsError("EROFS_UNSUPPORTED", `cannot read tar entries of type ${JSON.stringify(type)}`, {
        offset: start + TAR.type[0],
      });
  }
}

function attributesOf(header: Uint8Array, extended: Extended, start: number): TreeAttributes {
  const isPosix = text(header, "magic", start, false) === TAR_POSIX_MAGIC;
  const prefix = isPosix ? text(header, "prefix", start) : "";
  const name = text(header, "name", start);
  const xattrs: Record<string, Uint8Array> = Object.create(null);
  for (const [key, value] of extended) {
    if (key.startsWith(PAX_XATTR)) xattrs[xattrName(key.slice(PAX_XATTR.length))] = value;
  }
  return {
    path: textIn(extended, "path", start) ?? (prefix === "" ? name : `${prefix}/${name}`),
    mode: integer(header, "mode", start) & 0o7777,
    uid: numberIn(extended, "uid") ?? integer(header, "uid", start),
    gid: numberIn(extended, "gid") ?? integer(header, "gid", start),
    ...(timeIn(extended, start) ?? { mtime: BigInt(integer(header, "mtime", start)), mtimeNsec: 0 }),
    xattrs,
  };
}

/** Content that is skipped where nobody reads it. */
function contentOf(
  reader: ByteReader,
  sizeBytes: number,
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
      if (isEmpty) throw bad(`expected ${left} more bytes of content, got the end of the archive`, reader.offset);
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

async function extendedHeader(reader: ByteReader, size: number): Promise<Uint8Array> {
  if (size > DEFAULT_MAX_TAR_HEADER_BYTES) {
    const message = `expected an extended header of at most ${DEFAULT_MAX_TAR_HEADER_BYTES} bytes, got ${size}`;
    throw new ErofsError("EROFS_LIMIT", message, { offset: reader.offset });
  }
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
    throw bad(`expected ${what}, got the end of the archive`, reader.offset);
  }
  return bytes;
}

/** Sums every byte of the header, its own field counting as spaces. */
function assertChecksum(header: Uint8Array, start: number): void {
  const [from, length] = TAR.checksum;
  let sum = 0;
  for (const [at, byte] of header.entries()) sum += at >= from && at < from + length ? 0x20 : byte;
  const stored = integer(header, "checksum", start);
  if (stored !== sum) throw bad(`expected a header with the checksum ${stored}, got ${sum}`, start + from);
}

/** `length key=value\n`, the length counting itself and the line feed. */
function* paxRecords(bytes: Uint8Array, start: number): Generator<[string, Uint8Array]> {
  for (let at = 0; at < bytes.byteLength; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space === -1 ? "" : Buffer.from(bytes.subarray(at, space)).toString("latin1");
    const length = /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    if (length === 0 || end > bytes.byteLength || bytes[end - 1] !== 0x0a || equals === -1 || equals >= end) {
      throw bad(`expected a pax record, got something else ${at} bytes into the header behind`, start);
    }
    yield [Buffer.from(bytes.subarray(space + 1, equals)).toString("utf8"), bytes.slice(equals + 1, end - 1)];
    at = end;
  }
}

type Field = keyof typeof TAR;

/** A number in octal digits or, marked by the highest bit, in 256s. */
function integer(header: Uint8Array, field: Field, start: number): number {
  const [from, length] = TAR[field];
  const bytes = header.subarray(from, from + length);
  if (((bytes[0] ?? 0) & SIGNED_FIELD) !== 0) {
    const unsigned = BigInt(`0x${Buffer.from(bytes).toString("hex")}`) & ((1n << BigInt(length * 8 - 1)) - 1n);
    const value = Number(BigInt.asIntN(length * 8 - 1, unsigned));
    if (Number.isSafeInteger(value)) return value;
    throw bad(`expected a number below 2^53 as ${field}, got ${value}`, start + from);
  }
  const digits = Buffer.from(bytes).toString("latin1").replace(/\0.*$/s, "").trim();
  if (!/^[0-7]*$/.test(digits)) {
    throw bad(`expected octal digits as ${field}, got ${JSON.stringify(digits)}`, start + from);
  }
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function text(header: Uint8Array, field: Field, start: number, isTerminated = true): string {
  const [from, length] = TAR[field];
  const bytes = header.subarray(from, from + length);
  const end = bytes.indexOf(0);
  return decode(isTerminated && end !== -1 ? bytes.subarray(0, end) : bytes, start + from);
}

function textIn(extended: Extended, key: string, start: number): string | undefined {
  const value = extended.get(key);
  return value === undefined ? undefined : decode(value, start);
}

function decode(bytes: Uint8Array, offset: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", "expected UTF-8 in a tar header, got other bytes", {
      offset,
      cause,
    });
  }
}

function numberIn(extended: Extended, key: string): number | undefined {
  const value = extended.get(key);
  return value === undefined ? undefined : Number(Buffer.from(value).toString("latin1"));
}

/** Seconds with a fraction, which counts towards the future before 1970 too. */
function timeIn(extended: Extended, start: number): { mtime: bigint; mtimeNsec: number } | undefined {
  const value = extended.get("mtime");
  if (value === undefined) return undefined;
  const match = /^(-?\d{1,19})(?:\.(\d*))?$/.exec(Buffer.from(value).toString("latin1"));
  if (match === null) throw bad("expected a decimal number as mtime, got something else", start);
  return { mtime: BigInt(match[1] ?? "0"), mtimeNsec: Number((match[2] ?? "").padEnd(9, "0").slice(0, 9)) };
}

function bad(message: string, offset: number): ErofsError {
  return new ErofsError("EROFS_BAD_TAR", message, { offset });
}
