import {
  type BigIntStats,
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  read as readFile,
  readlinkSync,
  readSync,
  statfsSync,
  utimesSync,
  write as writeFile,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import { attrReply, type Request, replyOf } from "./codec.ts";
import { type Context, validityIn } from "./context.ts";
import { Refusal } from "./errno.ts";
import { GUEST_O_APPEND, MAX_IO_SIZE, REPLY_HEADER_SIZE, SETATTR } from "./format/fuse.ts";
import { APPEND_FLAGS, type OpenFile } from "./host-files.ts";
import { allowedMode } from "./name-operations.ts";
import { type Node, noteState } from "./node-table.ts";

/** Up to here waiting for a thread takes longer than the data. */
const MAX_SYNC_IO = 32 * 1024;
/** Most that is copied for one request, in `bytes`; the guest asks again for the rest. */
const MAX_COPY = 16 * 1024 * 1024;
const COPY_BUFFER = 1024 * 1024;
const MAX_NAME_BYTES = 255;

const readLater = promisify(readFile);
const writeLater = promisify(writeFile);
const fsyncLater = promisify(fsync);

/** GETATTR. */
export function getattr(context: Context, request: Request): Buffer {
  const node = context.table.get(request.nodeId);
  return tellState(context, node, context.files.state(node));
}

/** SETATTR: `struct fuse_setattr_in`. Owners are not changed: everything belongs to whoever runs the sandbox. */
export function setattr(context: Context, request: Request): Buffer {
  const { table, files } = context;
  const node = table.get(request.nodeId);
  const valid = request.u32(0);
  if ((valid & SETATTR.size) !== 0) {
    const size = request.u64(16);
    using file = open(context, node, true);
    ftruncateSync(file.descriptor, size);
  }
  let stats = files.state(node);
  if ((valid & SETATTR.mode) !== 0) {
    const mode = allowedMode(node.kind, request.u32(68));
    if ((Number(stats.mode) & 0o7777) !== mode) {
      files.withPath(node, (path) => chmodSync(path, mode));
      stats = files.state(node);
    }
  }
  if ((valid & (SETATTR.atime | SETATTR.mtime)) !== 0) {
    const now = Date.now() / 1000;
    const given = (bit: number, nowBit: number, at: number, nanosecondsAt: number, old: bigint): number => {
      if ((valid & bit) === 0) return Number(old) / 1e9;
      return (valid & nowBit) !== 0 ? now : request.seconds(at, nanosecondsAt);
    };
    const atime = given(SETATTR.atime, SETATTR.atimeNow, 32, 56, stats.atimeNs);
    const mtime = given(SETATTR.mtime, SETATTR.mtimeNow, 40, 60, stats.mtimeNs);
    files.withPath(node, (path) => utimesSync(path, timeOf(atime), timeOf(mtime)));
    stats = files.state(node);
  }
  return tellState(context, node, stats);
}

/** READLINK. */
export function readlink({ table, files }: Context, request: Request): Buffer {
  const node = table.get(request.nodeId);
  const { place } = files.find(node);
  const target = readlinkSync(files.path(place.parent, place.name), { encoding: "buffer" });
  return Buffer.concat([replyOf(0), target]);
}

/** STATFS. */
export function statfs({ table, files }: Context): Buffer {
  const stats = statfsSync(files.directoryPath(table.root), { bigint: true });
  const reply = replyOf(80);
  const counts = [stats.blocks, stats.bfree, stats.bavail, stats.files, stats.ffree];
  for (const [index, count] of counts.entries()) {
    reply.writeBigUInt64LE(BigInt.asUintN(64, count), REPLY_HEADER_SIZE + 8 * index);
  }
  reply.writeUInt32LE(Number(stats.bsize), REPLY_HEADER_SIZE + 40);
  reply.writeUInt32LE(MAX_NAME_BYTES, REPLY_HEADER_SIZE + 44);
  reply.writeUInt32LE(Number(stats.bsize), REPLY_HEADER_SIZE + 48);
  return reply;
}

/** READ: `struct fuse_read_in`. */
export function read(context: Context, request: Request): Buffer | Promise<Buffer> {
  const node = context.table.get(request.nodeId);
  const offset = request.u64(8);
  const size = request.u32(16);
  if (size > MAX_IO_SIZE) throw new Refusal("EINVAL");
  const reply = Buffer.allocUnsafe(REPLY_HEADER_SIZE + size);
  reply.fill(0, 0, REPLY_HEADER_SIZE);
  if (size <= MAX_SYNC_IO) {
    using file = open(context, node, false);
    return reply.subarray(0, REPLY_HEADER_SIZE + readSync(file.descriptor, reply, REPLY_HEADER_SIZE, size, offset));
  }
  const file = open(context, node, false);
  return (async () => {
    using _ = file;
    const { bytesRead } = await readLater(file.descriptor, reply, REPLY_HEADER_SIZE, size, offset);
    return reply.subarray(0, REPLY_HEADER_SIZE + bytesRead);
  })();
}

/** WRITE: `struct fuse_write_in`, data. */
export function write(context: Context, request: Request): Buffer | Promise<Buffer> {
  const node = context.table.get(request.nodeId);
  const offset = request.u64(8);
  const size = request.u32(16);
  if (size > MAX_IO_SIZE) throw new Refusal("EINVAL");
  const data = request.bytes(40, size);
  const isOfCache = (request.u32(20) & 1) !== 0;
  // Where the end is the host knows better: it may have written something itself.
  if ((request.u32(32) & GUEST_O_APPEND) !== 0 && !isOfCache) return append(context, node, offset, data);
  if (size <= MAX_SYNC_IO) {
    using file = open(context, node, true);
    let written = 0;
    while (written < size) written += writeSync(file.descriptor, data, written, size - written, offset + written);
    return noteWritten(node, file, written);
  }
  const file = open(context, node, true);
  return (async () => {
    using _ = file;
    await writeAll(file.descriptor, data, offset);
    return noteWritten(node, file, size);
  })();
}

/** FSYNC: the state of files is written with their contents. */
export async function sync(context: Context, request: Request): Promise<Buffer> {
  using file = open(context, context.table.get(request.nodeId), false);
  await fsyncLater(file.descriptor);
  return replyOf(0);
}

/** FSYNCDIR. */
export async function syncDirectory({ table, files }: Context, request: Request): Promise<Buffer> {
  const path = files.directoryPath(table.directory(request.nodeId));
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await fsyncLater(descriptor);
  } finally {
    closeSync(descriptor);
  }
  return replyOf(0);
}

/** COPY_FILE_RANGE: `struct fuse_copy_file_range_in`. What is copied does not go through the guest. */
export async function copyFileRange(context: Context, request: Request): Promise<Buffer> {
  const target = context.table.get(request.u64(16));
  const [from, to, length] = [request.u64(8), request.u64(32), request.u64(40)];
  using input = open(context, context.table.get(request.nodeId), false);
  using output = open(context, target, true);
  const wanted = Math.min(length, MAX_COPY);
  const buffer = Buffer.allocUnsafe(Math.min(wanted, COPY_BUFFER));
  let copied = 0;
  while (copied < wanted) {
    const size = Math.min(buffer.length, wanted - copied);
    const { bytesRead } = await readLater(input.descriptor, buffer, 0, size, from + copied);
    if (bytesRead === 0) break;
    await writeAll(output.descriptor, buffer.subarray(0, bytesRead), to + copied);
    copied += bytesRead;
  }
  return noteWritten(target, output, copied);
}

/** Node takes numbers before 1970 for now, but not dates. */
function timeOf(seconds: number): number | Date {
  return seconds < 0 ? new Date(Math.round(seconds * 1000)) : seconds;
}

async function writeAll(descriptor: number, data: Buffer, offset: number): Promise<void> {
  let written = 0;
  while (written < data.length) {
    written += (await writeLater(descriptor, data, written, data.length - written, offset + written)).bytesWritten;
  }
}

function append(context: Context, node: Node, expectedOffset: number, data: Buffer): Buffer {
  const descriptor = context.files.withPath(node, (path) => openSync(path, APPEND_FLAGS));
  try {
    let written = 0;
    while (written < data.length) written += writeSync(descriptor, data, written);
    const reply = noteWritten(node, { descriptor }, written);
    // The guest has put what it wrote where it thought that the end was.
    if (node.size !== BigInt(expectedOffset + data.length)) context.invalidate(node);
    return reply;
  } finally {
    closeSync(descriptor);
  }
}

/** Reply of `struct fuse_write_out`; notes that the file has changed because the guest wanted it. */
function noteWritten(node: Node, { descriptor }: Pick<OpenFile, "descriptor">, size: number): Buffer {
  noteState(node, fstatSync(descriptor, { bigint: true }));
  const reply = replyOf(8);
  reply.writeUInt32LE(size, REPLY_HEADER_SIZE);
  return reply;
}

function tellState(context: Context, node: Node, stats: BigIntStats): Buffer {
  noteState(node, stats);
  const { attr } = validityIn(context, node.places[0]?.parent, stats);
  return attrReply(stats, attr, context.owner);
}

function open({ files }: Context, node: Node, writable: boolean): Disposable & { readonly descriptor: number } {
  const file = files.acquire(node, writable);
  return { descriptor: file.descriptor, [Symbol.dispose]: () => files.release(file) };
}
