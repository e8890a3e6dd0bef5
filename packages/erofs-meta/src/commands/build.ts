import { realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { type CommandIo, formatBytes, table, UsageError, writeJson } from "@leveret/command";
import { type Command, InvalidArgumentError, Option } from "commander";
import { ErofsError } from "../errors.ts";
import { atomic, ioError, openStream, readWhole } from "../internal/files.ts";
import { type CompressionOptions, DEFAULT_BLOCK_SIZE } from "../options.ts";
import type { TreeEntries } from "../write/entry.ts";
import { readDirectory } from "../write/read-directory.ts";
import { readTar } from "../write/read-tar.ts";
import { type WriteErofsOptions, writeErofs } from "../write/write.ts";
import { addXattrs, parseXattrDump, type XattrDump } from "../write/xattr-dump.ts";
import { MAX_DUMP_BYTES, parseCount, withImage } from "./open.ts";

interface BuildOptions {
  readonly uuid?: string;
  readonly time: bigint;
  readonly fixedTime?: boolean;
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly xattrs?: string;
  readonly name: string;
  readonly blockSize: number;
  readonly xattrPrefix?: readonly string[];
  readonly sparse: boolean;
  readonly compress?: Pick<CompressionOptions, "algorithm" | "level">;
  readonly clusterSize?: number;
  readonly like?: string;
  readonly json?: boolean;
}

/** Adds `build`. */
export function addBuildCommand(program: Command, io: CommandIo): void {
  program
    .command("build")
    .description("write an image of a directory or of a tar archive")
    .argument("<image>", "file to write")
    .argument("<source>", "a directory, or a tar archive, which may be in gzip; - is one on standard input")
    .option("--uuid <uuid>", "volume UUID; follows from the other bytes of the image unless given")
    .addOption(new Option("--time <seconds>", "build time, seconds since 1970").argParser(parseTime).default(0n, "0"))
    .option("--fixed-time", "give everything the build time")
    .option("--owner <uid:gid>", "owner of everything in a directory, instead of its own", parseOwner)
    .option("--xattrs <file>", "what `getfattr -R -h -d -m - -e base64 .` prints in the directory")
    .option("--name <text>", "volume name, at most 16 bytes", "")
    .option("--block-size <bytes>", "block size", parseCount, DEFAULT_BLOCK_SIZE)
    .option(
      "--xattr-prefix <prefix>",
      "start of xattr names that is stored once, such as trusted.overlay.; again for each",
      (prefix, prefixes: string[] = []) => [...prefixes, prefix],
    )
    .option("--no-sparse", "store blocks of zeros")
    .option(
      "--compress <algorithm>",
      "compress contents: lz4, deflate, or deflate with a level as in deflate,9",
      parseAlgorithm,
    )
    .option("--cluster-size <bytes>", "most that is compressed together takes in the image, 4096..1048576", parseCount)
    .option("--like <image>", "an older image: keep everything in its place there, so that few blocks differ")
    .option("--json", "print one JSON document")
    .action((image: string, source: string, options: BuildOptions) => build(io, image, source, options));
}

async function build(io: CommandIo, image: string, source: string, options: BuildOptions): Promise<void> {
  const { time, name, uuid, fixedTime, blockSize, sparse, owner, compress, clusterSize } = options;
  if (clusterSize !== undefined && compress === undefined) {
    throw new UsageError("--cluster-size goes with --compress");
  }
  const from = source === "-" ? "/dev/stdin" : resolve(io.cwd, source);
  const output = resolve(io.cwd, image);
  const xattrs = options.xattrs === undefined ? undefined : resolve(io.cwd, options.xattrs);
  await assertOrder(output, from);
  await atomic.assertNoInput(output, xattrs === undefined ? [from] : [from, xattrs]);
  await assertOutside(output, from);
  const found = await entriesOf(from, owner, io.signal);
  const entries = xattrs === undefined ? found : addXattrs(found, await xattrsIn(xattrs, io.signal));
  const settings: WriteErofsOptions = {
    output,
    uuid,
    buildTime: time,
    volumeName: name,
    fixedTime,
    blockSize,
    sparse,
    xattrPrefixes: options.xattrPrefix,
    compression: compress === undefined ? undefined : { ...compress, clusterSize },
    signal: io.signal,
  };
  const written =
    options.like === undefined
      ? await writeErofs(entries, settings)
      : await withImage(io, options.like, { offset: 0 }, (like) => writeErofs(entries, { ...settings, like }));
  if (options.json === true) writeJson(io, { kind: "erofs-image", version: 1, ...written });
  else {
    const rows = [
      ["image", `${formatBytes(written.sizeBytes)} in ${image}`],
      ...(options.like === undefined ? [] : [["unused", formatBytes(written.unusedBytes)]]),
      ["inodes", `${written.inodes}`],
      ["uuid", written.uuid],
    ];
    io.stdout.write(`${table(rows)}\n`);
  }
}

/** Says the order of the arguments to whoever took the other one, which most commands that copy have. */
async function assertOrder(output: string, source: string): Promise<void> {
  const [target, found] = await Promise.all([output, source].map((path) => stat(path).catch(() => undefined)));
  const hint = "the image comes first: erofs-meta build IMAGE SOURCE";
  if (target?.isDirectory()) {
    throw new ErofsError("EROFS_WRONG_TYPE", `expected a file to write, got a directory at ${output}`, {
      path: output,
      hint,
    });
  }
  if (target === undefined || found !== undefined) return;
  throw new ErofsError("EROFS_NOT_FOUND", `expected a directory or an archive at ${source}, got none`, {
    path: source,
    hint,
  });
}

/** An image in its own directory would change what goes into it: names while it is written, and the directory's time. */
async function assertOutside(output: string, source: string): Promise<void> {
  const inside = relative(await realPath(source), await realPath(output));
  if (inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside)) return;
  if (inside === "") return;
  throw new ErofsError("EROFS_BAD_TREE", `expected an image outside of ${source}, got ${output}`, {
    path: output,
    hint: "writing it there would change the directory while it is read",
  });
}

/** A path without links, of which the end need not be there yet. */
async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const above = dirname(path);
    return above === path ? path : join(await realPath(above), basename(path));
  }
}

async function entriesOf(source: string, owner: BuildOptions["owner"], signal: AbortSignal): Promise<TreeEntries> {
  const found = await stat(source).catch((error: unknown) => {
    throw ioError(error, "read", source);
  });
  if (found.isDirectory()) return readDirectory(source, { owner });
  return readTar(piecesOf(source, signal));
}

async function* piecesOf(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* await openStream(path, signal);
  } catch (error) {
    throw ioError(error, "read", path);
  }
}

async function xattrsIn(path: string, signal: AbortSignal): Promise<XattrDump> {
  return parseXattrDump(await readWhole(path, { maxBytes: MAX_DUMP_BYTES, signal }));
}

function parseTime(text: string): bigint {
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError("expected seconds since 1970");
  return BigInt(text);
}

function parseAlgorithm(text: string): Pick<CompressionOptions, "algorithm" | "level"> {
  const match = /^(?:(lz4)|(deflate)(?:,([1-9]))?)$/.exec(text);
  if (match === null) throw new InvalidArgumentError("expected lz4, deflate or deflate,LEVEL with a level of 1..9");
  if (match[1] !== undefined) return { algorithm: "lz4" };
  return { algorithm: "deflate", level: match[3] === undefined ? undefined : Number(match[3]) };
}

function parseOwner(text: string): { uid: number; gid: number } {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(text);
  if (match === null) throw new InvalidArgumentError("expected two numbers, such as 0:0");
  return { uid: Number(match[1]), gid: Number(match[2]) };
}
