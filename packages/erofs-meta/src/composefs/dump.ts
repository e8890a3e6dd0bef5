import { ErofsError } from "../errors.ts";
import { MODE_TYPE_MASK } from "../format/inode.ts";
import { nameBytes, nameText } from "../internal/names.js";
import type { ComposefsEntry, ComposefsLink, ComposefsNode } from "./entry.ts";

const FIELDS = 11;
const DIGEST_SIZE = 32;
const NEWLINE = 0x0a;
/** Latest time that an inode can hold, in seconds since 1970. */
const MAX_TIME = 2n ** 64n - 1n;
/** Most characters of a field that are repeated in a message. */
const MAX_SHOWN = 64;
/** Letters that stand for one byte behind a backslash. */
const SHORT_ESCAPES: Readonly<Record<string, number>> = { "\\": 0x5c, n: 0x0a, r: 0x0d, t: 0x09 };
const SHORT_ESCAPE_OF = new Map(Object.entries(SHORT_ESCAPES).map(([letter, byte]) => [byte, `\\${letter}`]));

/**
 * Parses a dump, the text that `composefs-info dump` prints and `mkcomposefs --from-file` reads.
 *
 * @param bytes - The dump; a newline at its end may be missing.
 * @returns Its lines.
 * @throws {ErofsError} `EROFS_BAD_DUMP` with the line's number, `EROFS_NOT_REPRESENTABLE` for names of
 *   extended attributes that are no UTF-8.
 * @see composefs 1.0.8 composefs-dump(5)
 * @example
 * const entries = parseComposefsDump(await readFile("os.dump"));
 */
export function parseComposefsDump(bytes: Uint8Array): ComposefsEntry[] {
  const entries: ComposefsEntry[] = [];
  let line = 1;
  for (let start = 0; start < bytes.byteLength; line += 1) {
    const found = bytes.indexOf(NEWLINE, start);
    const end = found === -1 ? bytes.byteLength : found;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1");
    entries.push(new Line(text, line).entry());
    start = end + 1;
  }
  return entries;
}

/**
 * Writes a dump.
 *
 * @param entries - As {@link parseComposefsDump} gives them.
 * @returns The text; all of it is ASCII.
 * @see composefs 1.0.8 composefs-dump(5)
 * @example
 * await writeFile("os.dump", formatComposefsDump(entries));
 */
export function formatComposefsDump(entries: readonly ComposefsEntry[]): string {
  const nodes = new Map<string, ComposefsNode>();
  for (const entry of entries) if (!("linkTo" in entry)) nodes.set(entry.path, entry);
  return entries.map((entry) => `${formatEntry(entry, nodes)}\n`).join("");
}

function formatEntry(entry: ComposefsEntry, nodes: ReadonlyMap<string, ComposefsNode>): string {
  const node = "linkTo" in entry ? nodes.get(entry.linkTo) : entry;
  if (node === undefined) {
    throw new ErofsError(
      "EROFS_BAD_TREE",
      `expected a node at ${(entry as ComposefsLink).linkTo} for a link, got none`,
      {
        path: entry.path,
      },
    );
  }
  const isLink = "linkTo" in entry;
  const { mode, sizeBytes, links, uid, gid, device, mtime, mtimeNsec, payload, content, digest } = node;
  return [
    escaped(nameBytes(entry.path)),
    sizeBytes,
    `${isLink ? "@" : ""}${mode.toString(8)}`,
    links,
    uid,
    gid,
    device,
    `${mtime}.${mtimeNsec}`,
    optional(isLink ? nameBytes(entry.linkTo) : payload === undefined ? undefined : nameBytes(payload)),
    optional(content),
    digest === undefined ? "-" : Buffer.from(digest).toString("hex"),
    ...Object.entries(node.xattrs).map(([name, value]) => `${escaped(Buffer.from(name), "=")}=${escaped(value, "=")}`),
  ].join(" ");
}

function optional(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return "-";
  const text = escaped(bytes);
  return text === "-" ? "\\x2d" : text;
}

function escaped(bytes: Uint8Array, also = ""): string {
  let text = "";
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    const isPlain = byte > 0x20 && byte < 0x7f && character !== "\\" && character !== also;
    text += isPlain ? character : (SHORT_ESCAPE_OF.get(byte) ?? `\\x${byte.toString(16).padStart(2, "0")}`);
  }
  return text;
}

/** A line that is being read. */
class Line {
  readonly #fields: readonly string[];
  readonly #number: number;

  constructor(text: string, number: number) {
    this.#fields = text.split(" ");
    this.#number = number;
    if (text.includes("\0")) throw this.#bad("expected text, got a NUL byte");
    if (this.#fields.length < FIELDS) {
      throw this.#bad(`expected ${FIELDS} fields, got ${this.#fields.length}`);
    }
  }

  entry(): ComposefsEntry {
    const [path = "", size = "", mode = "", links = "", uid = "", gid = "", device = "", time = "", ...rest] =
      this.#fields;
    const [payload = "", content = "", digest = ""] = rest;
    const name = this.#name(path);
    if (mode.startsWith("@")) {
      const linkTo = payload === "-" ? undefined : this.#name(payload);
      if (linkTo === undefined) throw this.#bad("expected the target of a hard link, got none");
      return { path: name, linkTo };
    }
    const [seconds = "", nanoseconds = ""] = time.split(".");
    const sizeBytes = this.#integer(size, "size", Number.MAX_SAFE_INTEGER);
    const inline = content === "-" ? undefined : this.#bytes(content);
    if (inline !== undefined && inline.byteLength !== sizeBytes) {
      throw this.#bad(`expected content of ${sizeBytes} bytes, got ${inline.byteLength}`);
    }
    const modeBits = this.#integer(mode, "mode", 0xffff, 8);
    if ((modeBits & MODE_TYPE_MASK) === 0) throw this.#bad(`expected a mode with a type, got ${shown(mode)}`);
    return {
      path: name,
      sizeBytes,
      mode: modeBits,
      links: this.#integer(links, "number of links", 0xffff_ffff),
      uid: this.#integer(uid, "uid", 0xffff_ffff),
      gid: this.#integer(gid, "gid", 0xffff_ffff),
      device: this.#integer(device, "device", 0xffff_ffff),
      mtime: this.#time(seconds),
      mtimeNsec: this.#integer(nanoseconds, "nanoseconds", 999_999_999),
      ...(payload !== "-" && { payload: this.#name(payload) }),
      ...(inline !== undefined && { content: inline }),
      ...(digest !== "-" && { digest: this.#digest(digest) }),
      xattrs: this.#xattrs(),
    };
  }

  #xattrs(): Record<string, Uint8Array> {
    const xattrs: Record<string, Uint8Array> = Object.create(null);
    for (const field of this.#fields.slice(FIELDS)) {
      const equals = field.indexOf("=");
      if (equals < 1) throw this.#bad(`expected NAME=VALUE, got ${shown(field)}`);
      xattrs[this.#text(field.slice(0, equals))] = this.#bytes(field.slice(equals + 1));
    }
    return xattrs;
  }

  #digest(text: string): Uint8Array {
    if (!/^[0-9a-f]{64}$/i.test(text)) throw this.#bad(`expected a digest of ${DIGEST_SIZE} bytes, got ${shown(text)}`);
    return Uint8Array.from(Buffer.from(text, "hex"));
  }

  #integer(text: string, what: string, most: number, radix: 8 | 10 = 10): number {
    const value = (radix === 8 ? /^[0-7]+$/ : /^\d+$/).test(text) ? Number.parseInt(text, radix) : Number.NaN;
    if (value <= most) return value;
    throw this.#bad(`expected a ${what} of at most ${most}, got ${shown(text)}`);
  }

  /** Digits are counted before they become a number, which takes longer than in proportion to them. */
  #time(seconds: string): bigint {
    const value = /^\d{1,20}$/.test(seconds) ? BigInt(seconds) : undefined;
    if (value !== undefined && value <= MAX_TIME) return value;
    throw this.#bad(`expected a time of at most ${MAX_TIME} seconds, got ${shown(seconds)}`);
  }

  #name(field: string): string {
    return nameText(this.#nameBytes(field));
  }

  #nameBytes(field: string): Uint8Array {
    const bytes = this.#bytes(field);
    if (bytes.byteLength === 0 || bytes.includes(0)) throw this.#bad("expected a name without NUL, got another");
    return bytes;
  }

  /** The name of an extended attribute. */
  #text(field: string): string {
    const bytes = this.#nameBytes(field);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      const message = `expected a name in UTF-8, got ${shown(field)} (line ${this.#number})`;
      throw new ErofsError("EROFS_NOT_REPRESENTABLE", message, { cause });
    }
  }

  #bytes(field: string): Uint8Array {
    const bytes: number[] = [];
    for (let at = 0; at < field.length; at += 1) {
      if (field[at] !== "\\") {
        bytes.push(field.charCodeAt(at));
        continue;
      }
      const short = SHORT_ESCAPES[field[at + 1] ?? ""];
      const hex = /^x([0-9a-f]{2})$/i.exec(field.slice(at + 1, at + 4))?.[1];
      if (short === undefined && hex === undefined)
        throw this.#bad(`expected an escape, got ${field.slice(at, at + 4)}`);
      bytes.push(short ?? Number.parseInt(hex ?? "", 16));
      at += short === undefined ? 3 : 1;
    }
    return Uint8Array.from(bytes);
  }

  #bad(message: string): ErofsError {
    return new ErofsError("EROFS_BAD_DUMP", `${message} (line ${this.#number})`);
  }
}

function shown(field: string): string {
  return JSON.stringify(field.length > MAX_SHOWN ? `${field.slice(0, MAX_SHOWN)}…` : field);
}
