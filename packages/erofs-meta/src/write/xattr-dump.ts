import { ErofsError } from "../errors.ts";
import { nameText } from "../internal/names.js";
import type { Xattr } from "../read/xattr.ts";
import type { TreeEntries, TreeEntry } from "./entry.ts";

/** Extended attributes by path, each by full name. */
export type XattrDump = ReadonlyMap<string, Readonly<Record<string, Uint8Array>>>;

const FILE_LINE = "# file: ";
const HEX = /^(?:[0-9a-f]{2})*$/i;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/**
 * Parses what `getfattr --dump` prints, with values as text, hexadecimal digits or base64, which is how attributes come to
 * {@link addXattrs}: Node has no call to read them.
 *
 * @param bytes - The text, such as of `getfattr -R -h -d -m - -e base64 .` in the directory.
 * @returns Attributes by path as the text has them.
 * @throws {ErofsError} `EROFS_BAD_DUMP` with the line's number, `EROFS_NOT_REPRESENTABLE` for names of
 *   attributes that are no UTF-8.
 * @see attr 2.5 getfattr(1), setfattr(1) `--restore`
 * @example
 * const dump = parseXattrDump(await readFile("xattrs"));
 */
export function parseXattrDump(bytes: Uint8Array): XattrDump {
  const files = new Map<string, Record<string, Uint8Array>>();
  let xattrs: Record<string, Uint8Array> | undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  for (const [index, line] of text.split("\n").entries()) {
    const number = index + 1;
    if (line === "") continue;
    if (line.startsWith(FILE_LINE)) {
      const path = nameText(unescaped(line.slice(FILE_LINE.length), number));
      xattrs = files.get(path) ?? Object.create(null);
      files.set(path, xattrs as Record<string, Uint8Array>);
      continue;
    }
    if (line.startsWith("#")) continue;
    if (xattrs === undefined) throw bad(`expected a line that starts with '${FILE_LINE}', got another`, number);
    const equals = line.indexOf("=");
    const name = nameOf(equals === -1 ? line : line.slice(0, equals), number);
    xattrs[name] = equals === -1 ? new Uint8Array(0) : decodeValue(line.slice(equals + 1), number);
  }
  return files;
}

/**
 * Prints extended attributes as `getfattr --dump` does, to be set by `setfattr -h --restore`: what is text as text, other
 * values in base64.
 *
 * @param path - Path of what has them; `.` is the directory that the paths are in.
 * @param xattrs - Names and values.
 * @returns Lines that end with an empty one, one file's part of a dump.
 * @see attr 2.5 getfattr(1), setfattr(1) `--restore`
 * @example
 * formatXattrDump("bin/ping", await image.xattrs(await image.lookup("/bin/ping")));
 */
export function formatXattrDump(path: string, xattrs: readonly Xattr[]): string {
  const lines = xattrs.map(({ name, value }) => `${name.replace(/[=\n\r\\]/g, octal)}=${xattrText(value)}\n`);
  return `${FILE_LINE}${path.replace(/[\n\r\\\udc80-\udcff]/g, octal)}\n${lines.join("")}\n`;
}

/** A value as `getfattr` prints it. */
export function xattrText(value: Uint8Array): string {
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1");
  // A label ends with a NUL.
  if (!/^[\t\n\r\x20-\x7e]*\0?$/.test(text)) return `0s${Buffer.from(value).toString("base64")}`;
  return `"${text.replace(/["\\]/g, "\\$&").replace(/[\0\n\r]/g, octal)}"`;
}

function octal(character: string): string {
  return `\\${(character.charCodeAt(0) & 0xff).toString(8).padStart(3, "0")}`;
}

/**
 * Adds extended attributes to the entries of a tree, such as those of `readDirectory`, by their paths.
 *
 * @param entries - The tree.
 * @param dump - Attributes; `.` is the root, a leading `./` or `/` does not matter. Those of an entry itself come first.
 * @returns The tree with its attributes.
 * @throws {ErofsError} `EROFS_BAD_TREE` at the end for attributes of a path that the tree does not have.
 * @example
 * await writeErofs(addXattrs(readDirectory("root"), parseXattrDump(await readFile("xattrs"))), options);
 */
export async function* addXattrs(entries: TreeEntries, dump: XattrDump): AsyncGenerator<TreeEntry> {
  const known = new Map([...dump].map(([path, xattrs]) => [key(path), xattrs]));
  const left = new Set(known.keys());
  for await (const entry of entries) {
    const found = known.get(key(entry.path));
    left.delete(key(entry.path));
    // The attributes of a further name are those of the node, which has a name of its own.
    yield found === undefined || entry.type === "link" ? entry : { ...entry, xattrs: { ...found, ...entry.xattrs } };
  }
  for (const path of left) {
    throw new ErofsError("EROFS_BAD_TREE", `expected attributes of the tree's own paths, got /${path}`, {
      path: `/${path}`,
      hint: "dump them in the directory itself: getfattr -R -h -d -m - -e base64 . > FILE",
    });
  }
}

function key(path: string): string {
  return path
    .split("/")
    .filter((name) => name !== "" && name !== ".")
    .join("/");
}

/** The name of an attribute, in which a backslash and three octal digits stand for a byte. */
function nameOf(text: string, line: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(unescaped(text, line));
  } catch (cause) {
    if (cause instanceof ErofsError) throw cause;
    throw new ErofsError("EROFS_NOT_REPRESENTABLE", `expected a name in UTF-8, got other bytes (line ${line})`, {
      cause,
    });
  }
}

function decodeValue(text: string, line: number): Uint8Array {
  if (/^0x/i.test(text) && HEX.test(text.slice(2))) return Uint8Array.from(Buffer.from(text.slice(2), "hex"));
  if (/^0s/i.test(text) && BASE64.test(text.slice(2))) return Uint8Array.from(Buffer.from(text.slice(2), "base64"));
  if (text.length >= 2 && text.startsWith('"') && text.endsWith('"')) return unescaped(text.slice(1, -1), line);
  throw bad(`expected a value in quotes, or one that starts with 0x or 0s, got ${text.slice(0, 40)}`, line);
}

function unescaped(text: string, line: number): Uint8Array {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] !== "\\") {
      bytes.push(text.charCodeAt(at));
      continue;
    }
    const octal = /^[0-3][0-7]{2}/.exec(text.slice(at + 1, at + 4))?.[0];
    const plain = text[at + 1];
    if (octal !== undefined) bytes.push(Number.parseInt(octal, 8));
    else if (plain === "\\" || plain === '"') bytes.push(plain.charCodeAt(0));
    else throw bad(`expected an escape, got ${text.slice(at, at + 4)}`, line);
    at += octal === undefined ? 1 : 3;
  }
  return Uint8Array.from(bytes);
}

function bad(message: string, line: number): ErofsError {
  return new ErofsError("EROFS_BAD_DUMP", `${message} (line ${line})`);
}
