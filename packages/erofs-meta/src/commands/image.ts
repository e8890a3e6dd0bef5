import { once } from "node:events";
import { type CommandIo, escapeName, formatBytes, renderJson, style, table, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { ErofsError } from "../errors.ts";
import type { Extent } from "../read/content.ts";
import type { ErofsImage } from "../read/image.ts";
import type { Inode } from "../read/inode.ts";
import type { WalkEntry } from "../read/walk.ts";
import { xattrText } from "../write/xattr-dump.ts";
import { type ImageOptions, parseCount, withImage, withImageOptions, withPlaceOptions } from "./open.ts";
import { modeText, sizeText, timeText } from "./text.ts";

/** Most content that `cat --json` prints, in `MiB`: its digits, twice as many, have to fit into one string. */
const MAX_JSON_CONTENT_MIB = 64;

/** How much of a drawn tree is written at once, in characters. */
const PIECE_LENGTH = 64 * 1024;

/** Adds `ls`, `stat`, `tree`, `dump` and `cat`. */
export function addImageCommands(program: Command, io: CommandIo): void {
  withImageOptions(program.command("ls").description("list a directory"))
    .argument("<image>")
    .argument("[path]", "path inside the image", "/")
    .option("-l, --long", "with mode, owner, size and time")
    .action((image: string, path: string, options: ListOptions) => list(io, image, path, options));

  withImageOptions(program.command("stat").description("show one inode with its xattrs and its place in the image"))
    .argument("<image>")
    .argument("<path>")
    .action((image: string, path: string, options: ImageOptions) => stat(io, image, path, options));

  withImageOptions(program.command("tree").description("draw the tree below a directory"))
    .argument("<image>")
    .argument("[path]", "path inside the image", "/")
    .option("--depth <levels>", "directories to go down", parseCount)
    .action((image: string, path: string, options: TreeOptions) => tree(io, image, path, options));

  withImageOptions(program.command("dump").description("show the superblock"))
    .argument("<image>")
    .action((image: string, options: ImageOptions) => dump(io, image, options));

  withPlaceOptions(program.command("cat").description("write a file's content to standard output"))
    .argument("<image>")
    .argument("<path>")
    .option("--json", `print one JSON document with the content, at most ${MAX_JSON_CONTENT_MIB} MiB, as hex digits`)
    .action((image: string, path: string, options: ImageOptions) => cat(io, image, path, options));
}

type ListOptions = ImageOptions & { readonly long?: boolean };
type TreeOptions = ImageOptions & { readonly depth?: number };

interface Listed {
  readonly name: string;
  readonly inode: Inode;
  readonly target?: string;
}

async function list(io: CommandIo, file: string, path: string, options: ListOptions): Promise<void> {
  await withImage(io, file, options, async (image) => {
    const listed: Listed[] = [];
    const start = await image.lookup(path);
    if (start.type === "directory") {
      for await (const { name, nid } of image.entries(start)) {
        if (name !== "." && name !== "..") listed.push(await describe(image, name, await image.inode(nid)));
      }
    } else listed.push(await describe(image, path, start));
    if (options.json === true) {
      writeJson(io, { kind: "erofs-list", version: 1, path, entries: listed.map(entryJson) });
    } else if (options.long === true) io.stdout.write(`${table(listed.map(longRow))}\n`);
    else for (const one of listed) io.stdout.write(`${paint(io, one)}\n`);
  });
}

async function stat(io: CommandIo, file: string, path: string, options: ImageOptions): Promise<void> {
  await withImage(io, file, options, async (image) => {
    const inode = await image.lookup(path, { followLast: false });
    const { target } = await describe(image, path, inode);
    const xattrs = await image.xattrs(inode);
    const extents = [];
    const hasContent = inode.device === undefined && inode.type !== "fifo" && inode.type !== "socket";
    if (hasContent) for await (const extent of image.extents(inode)) extents.push(extent);
    if (options.json === true) {
      writeJson(io, { kind: "erofs-stat", version: 1, path, inode, target, xattrs, extents });
      return;
    }
    const rows = [
      ["path", escapeName(path) + (target === undefined ? "" : ` -> ${escapeName(target)}`)],
      ["type", inode.type],
      ["mode", `${modeText(inode)} (${inode.mode.toString(8).padStart(4, "0")})`],
      ["owner", `${inode.uid}:${inode.gid}`],
      ["links", `${inode.links}`],
      ["size", inode.device === undefined ? `${inode.sizeBytes} bytes` : `device ${sizeText(inode)}`],
      ["modified", `${timeText(inode.mtime)} UTC`],
      ["inode", `node ${inode.nid} at byte ${inode.offset}, ${inode.form}, ${inode.layout}`],
      ...extents.map((extent) => ["extent", `${extent.start}..${extent.start + extent.length} ${placeText(extent)}`]),
      ...xattrs.map(({ name, value }) => ["xattr", `${escapeName(name)}=${xattrText(value)}`]),
    ];
    io.stdout.write(`${table(rows)}\n`);
  });
}

function placeText({ position, stored, packedPosition, boxPosition, device }: Extent): string {
  if (boxPosition !== undefined) return `at byte ${boxPosition} of the metadata box`;
  if (packedPosition !== undefined) return `at byte ${packedPosition} of the packed inode`;
  if (position === undefined) return "is a hole";
  if (device !== undefined) return `at byte ${position} of device ${device}`;
  if (stored === undefined) return `at byte ${position}`;
  const encoding = stored.encoding === "none" || stored.encoding === "interlaced" ? "uncompressed" : stored.encoding;
  return `${encoding} in ${stored.length} bytes at byte ${position}`;
}

async function tree(io: CommandIo, file: string, path: string, options: TreeOptions): Promise<void> {
  await withImage(io, file, options, async (image) => {
    const entries = image.walk({ from: path, levels: options.depth, signal: io.signal });
    const pieces = options.json === true ? treeJson(image, path, entries) : drawn(io, image, entries);
    // Written as it is walked: an image of a few MiB can have ten million names.
    let text = "";
    for await (const piece of pieces) {
      text += piece;
      if (text.length < PIECE_LENGTH) continue;
      await writePiece(io, text);
      text = "";
    }
    await writePiece(io, text);
  });
}

/** One line an entry, with a trunk for each directory above it that has more entries. */
async function* drawn(io: CommandIo, image: ErofsImage, entries: AsyncIterable<WalkEntry>): AsyncGenerator<string> {
  const trunks: string[] = [];
  for await (const { path, name, depth, inode, last } of entries) {
    const shown = depth === 0 ? escapeName(path) : paint(io, await describe(image, name, inode));
    const branch = depth === 0 ? "" : last ? "└─ " : "├─ ";
    trunks.length = Math.max(0, depth - 1);
    yield `${trunks.join("")}${branch}${shown}\n`;
    if (depth > 0) trunks.push(last ? "   " : "│  ");
  }
}

async function* treeJson(image: ErofsImage, path: string, entries: AsyncIterable<WalkEntry>): AsyncGenerator<string> {
  const [head = "", tail = ""] = renderJson({ kind: "erofs-tree", version: 1, path, entries: [] }).split(/(?=\]\n\}$)/);
  let separator = `${head}\n`;
  for await (const { path: full, name, depth, inode } of entries) {
    const row = { ...entryJson(await describe(image, name, inode)), path: full, depth };
    yield `${separator}    ${renderJson(row).replaceAll("\n", "\n    ")}`;
    separator = ",\n";
  }
  yield `\n  ${tail}\n`;
}

async function dump(io: CommandIo, file: string, options: ImageOptions): Promise<void> {
  await withImage(io, file, options, async (image) => {
    const { superblock } = image;
    if (options.json === true) {
      writeJson(io, { kind: "erofs-superblock", version: 1, superblock });
      return;
    }
    const names = (list: readonly string[]): string => (list.length === 0 ? "none" : list.join(", "));
    const rows = [
      [
        "size",
        `${superblock.blocks} blocks of ${superblock.blockSize} bytes (${formatBytes(BigInt(superblock.blocks) * BigInt(superblock.blockSize))})`,
      ],
      ["inodes", `${superblock.inodes}, root is node ${superblock.rootNid}`],
      ["built", `${timeText(superblock.buildTime)} UTC`],
      ["uuid", superblock.uuid],
      ["name", superblock.volumeName === "" ? "none" : escapeName(superblock.volumeName)],
      ["metadata", `from block ${superblock.metaBlock}, shared xattrs from block ${superblock.xattrBlock}`],
      [
        "checksum",
        superblock.compatFeatures.includes("sb_chksum")
          ? `${superblock.checksum.toString(16).padStart(8, "0")}, right`
          : "none",
      ],
      ["compatible features", names(superblock.compatFeatures)],
      ["incompatible features", names(superblock.incompatFeatures)],
      ["compression", names(superblock.compressionAlgorithms)],
      ["extra devices", `${superblock.extraDevices}`],
    ];
    io.stdout.write(`${table(rows)}\n`);
  });
}

async function cat(io: CommandIo, file: string, path: string, options: ImageOptions): Promise<void> {
  await withImage(io, file, options, async (image) => {
    const inode = await image.lookup(path);
    if (inode.type !== "file") {
      throw new ErofsError("EROFS_WRONG_TYPE", `expected a file at ${path}, got a ${inode.type}`, {
        path,
        offset: inode.offset,
        ...(inode.type === "directory" && { hint: "erofs-meta ls lists directories" }),
      });
    }
    if (options.json === true) {
      assertFitsJson(path, inode);
      writeJson(io, { kind: "erofs-content", version: 1, path, content: await image.readFile(inode) });
      return;
    }
    for await (const piece of image.content(inode)) {
      io.signal.throwIfAborted();
      await writePiece(io, piece);
    }
  });
}

function assertFitsJson(path: string, { sizeBytes, offset }: Inode): void {
  const most = MAX_JSON_CONTENT_MIB * 1024 * 1024;
  if (sizeBytes <= BigInt(most)) return;
  const message = `expected at most ${most} bytes for one JSON document, got ${sizeBytes}`;
  throw new ErofsError("EROFS_LIMIT", message, {
    path,
    offset,
    hint: "leave out --json: the content itself may be as long as it likes",
  });
}

/** Writes text, or bytes as they are; the stream of a real process takes them and tells when it is full. */
async function writePiece(io: CommandIo, bytes: Uint8Array | string): Promise<void> {
  const stream: { write(piece: Uint8Array | string): unknown } = io.stdout as never;
  if (stream.write(bytes) === false) await once(io.stdout as never, "drain", { signal: io.signal });
}

async function describe(image: ErofsImage, name: string, inode: Inode): Promise<Listed> {
  return inode.type === "symlink" ? { name, inode, target: await image.readLink(inode) } : { name, inode };
}

function paint(io: CommandIo, { name, inode, target }: Listed): string {
  const text = escapeName(name);
  if (inode.type === "directory") return style(io.stdout, io.env, "blue", `${text}/`);
  if (target !== undefined) return `${style(io.stdout, io.env, "cyan", text)} -> ${escapeName(target)}`;
  return inode.type === "file" && (inode.mode & 0o111) !== 0 ? style(io.stdout, io.env, "green", text) : text;
}

function longRow({ name, inode, target }: Listed): string[] {
  const link = target === undefined ? "" : ` -> ${escapeName(target)}`;
  const owner = `${inode.uid}:${inode.gid}`;
  return [modeText(inode), `${inode.links}`, owner, sizeText(inode), timeText(inode.mtime), escapeName(name) + link];
}

function entryJson({ name, inode, target }: Listed): Record<string, unknown> {
  const { nid, type, mode, uid, gid, sizeBytes, mtime, links, device, layout } = inode;
  return { name, nid, type, mode, uid, gid, sizeBytes, mtime, links, layout, device, target };
}
