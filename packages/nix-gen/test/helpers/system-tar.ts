/** One entry of a tar archive, with every fact that an image keeps. */
export interface TarEntry {
  readonly type: string;
  /** octal */
  readonly mode: string;
  readonly owner: string;
  readonly sizeBytes: number;
  readonly mtime: number;
  readonly link: string;
  /** values in hexadecimal */
  readonly xattrs: Readonly<Record<string, string>>;
  /** major and minor number of a device */
  readonly device: string;
  readonly content: Uint8Array;
}

const BLOCK = 512;
const TYPES: Record<string, string> = {
  "0": "file",
  "1": "hard link",
  "2": "link",
  "3": "character device",
  "4": "block device",
  "5": "directory",
  "6": "fifo",
};

/**
 * Reads a POSIX archive, names as latin1 so that every byte is kept; tar-stream decodes extended attributes as text,
 * which loses them.
 *
 * @see POSIX.1-2017, pax, "pax Interchange Format"
 */
export function readTar(archive: Uint8Array): Map<string, TarEntry> {
  const entries = new Map<string, TarEntry>();
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength);
  let pax: Record<string, Buffer> = {};
  for (let at = 0; at + BLOCK <= bytes.length && bytes[at] !== 0; ) {
    const header = bytes.subarray(at, at + BLOCK);
    const text = (from: number, length: number): string => cut(header.subarray(from, from + length));
    const octal = (from: number, length: number): number => Number.parseInt(text(from, length).trim() || "0", 8);
    const size = pax.size === undefined ? octal(124, 12) : Number(pax.size.toString());
    const content = bytes.subarray(at + BLOCK, at + BLOCK + size);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    const type = text(156, 1);
    if (type === "x") {
      pax = paxRecords(content);
      continue;
    }
    const prefix = text(345, 155);
    const name = pax.path?.toString("latin1") ?? `${prefix === "" ? "" : `${prefix}/`}${text(0, 100)}`;
    const xattrs = Object.entries(pax).filter(([key]) => key.startsWith("SCHILY.xattr."));
    entries.set(name.replace(/\/$/, ""), {
      type: TYPES[type] ?? type,
      mode: (octal(100, 8) & 0o7777).toString(8),
      owner: `${pax.uid?.toString() ?? octal(108, 8)}:${pax.gid?.toString() ?? octal(116, 8)}`,
      sizeBytes: size,
      mtime: Math.floor(Number(pax.mtime?.toString() ?? octal(136, 12))),
      link: pax.linkpath?.toString("latin1") ?? text(157, 100),
      xattrs: Object.fromEntries(xattrs.map(([key, value]) => [key.slice(13), value.toString("hex")])),
      device: type === "3" || type === "4" ? `${octal(329, 8)}:${octal(337, 8)}` : "",
      content,
    });
    pax = {};
  }
  return entries;
}

function paxRecords(content: Buffer): Record<string, Buffer> {
  const records: Record<string, Buffer> = {};
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(" ", at);
    const length = Number(content.subarray(at, space).toString());
    const record = content.subarray(space + 1, at + length - 1);
    const equals = record.indexOf("=");
    records[record.subarray(0, equals).toString("latin1")] = record.subarray(equals + 1);
    at += length;
  }
  return records;
}

function cut(field: Buffer): string {
  const end = field.indexOf(0);
  return field.subarray(0, end === -1 ? field.length : end).toString("latin1");
}
