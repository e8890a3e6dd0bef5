import { type Request, replyOf } from "./codec.ts";
import { type Answer, unknown } from "./connection.ts";
import type { Context } from "./context.ts";
import { Refusal } from "./errno.ts";
import {
  FUSE_VERSION,
  INIT_FLAGS,
  MAX_IO_SIZE,
  MINIMUM_MINOR_VERSION,
  OPCODE,
  PAGE_SIZE,
  REPLY_HEADER_SIZE,
} from "./format/fuse.ts";
import { readdir, readdirplus } from "./listing.ts";
import { create, link, lookup, mkdir, mknod, rename, rename2, rmdir, symlink, unlink } from "./name-operations.ts";
import {
  copyFileRange,
  getattr,
  read,
  readlink,
  setattr,
  statfs,
  sync,
  syncDirectory,
  write,
} from "./node-operations.ts";

/** Requests that the guest's kernel has on the way without anybody waiting for them. */
const MAX_BACKGROUND = 32;
const CONGESTION_THRESHOLD = 24;
/** Length of `struct fuse_init_out`. */
const INIT_SIZE = 64;

type Operation = (context: Context, request: Request) => Buffer | Promise<Buffer> | undefined;

/**
 * What is answered. Opening and closing is not: a kernel that is told so keeps what it remembers of a file from one
 * opening to the next, and there is nothing open in here that a template would have to take along.
 */
const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [OPCODE.lookup, lookup],
  [OPCODE.forget, forget],
  [OPCODE.getattr, getattr],
  [OPCODE.setattr, setattr],
  [OPCODE.readlink, readlink],
  [OPCODE.symlink, symlink],
  [OPCODE.mknod, mknod],
  [OPCODE.mkdir, mkdir],
  [OPCODE.unlink, unlink],
  [OPCODE.rmdir, rmdir],
  [OPCODE.rename, rename],
  [OPCODE.link, link],
  [OPCODE.read, read],
  [OPCODE.write, write],
  [OPCODE.statfs, statfs],
  [OPCODE.fsync, sync],
  [OPCODE.init, init],
  [OPCODE.readdir, readdir],
  [OPCODE.fsyncdir, syncDirectory],
  [OPCODE.create, create],
  // Everything ends by itself, and soon.
  [OPCODE.interrupt, () => undefined],
  [OPCODE.notifyReply, () => undefined],
  [OPCODE.destroy, () => replyOf(0)],
  [OPCODE.batchForget, batchForget],
  [OPCODE.readdirplus, readdirplus],
  [OPCODE.rename2, rename2],
  [OPCODE.copyFileRange, copyFileRange],
]);

/** What changes something. */
const CHANGES: ReadonlySet<number> = new Set([
  OPCODE.setattr,
  OPCODE.symlink,
  OPCODE.mknod,
  OPCODE.mkdir,
  OPCODE.unlink,
  OPCODE.rmdir,
  OPCODE.rename,
  OPCODE.link,
  OPCODE.write,
  OPCODE.create,
  OPCODE.rename2,
  OPCODE.copyFileRange,
]);

/** Makes what answers requests. */
export function dispatch(context: Context): Answer {
  return (request) => {
    if (context.readOnly && CHANGES.has(request.opcode)) throw new Refusal("EROFS");
    return (OPERATIONS.get(request.opcode) ?? unknown)(context, request);
  };
}

/** INIT: `struct fuse_init_in`. A file system that is mounted anew knows nothing. */
function init(context: Context, request: Request): Buffer {
  const major = request.u32(0);
  const minor = request.u32(4);
  const reply = replyOf(INIT_SIZE);
  reply.writeUInt32LE(FUSE_VERSION.major, REPLY_HEADER_SIZE);
  reply.writeUInt32LE(FUSE_VERSION.minor, REPLY_HEADER_SIZE + 4);
  // A newer kernel asks again, in the version that it has been answered.
  if (major > FUSE_VERSION.major) return reply;
  if (major < FUSE_VERSION.major || minor < MINIMUM_MINOR_VERSION) throw new Refusal("EPROTO");
  for (const node of [...context.table.nodes()]) {
    if (node === context.table.root) continue;
    context.table.drop(node);
    context.forget(node);
  }
  const fields = REPLY_HEADER_SIZE + 8;
  reply.writeUInt32LE(Math.min(request.u32(8), MAX_IO_SIZE), fields);
  reply.writeUInt32LE((request.u32(12) & INIT_FLAGS) >>> 0, fields + 4);
  reply.writeUInt16LE(MAX_BACKGROUND, fields + 8);
  reply.writeUInt16LE(CONGESTION_THRESHOLD, fields + 10);
  reply.writeUInt32LE(MAX_IO_SIZE, fields + 12);
  // Times are exact to a nanosecond.
  reply.writeUInt32LE(1, fields + 16);
  reply.writeUInt16LE(MAX_IO_SIZE / PAGE_SIZE, fields + 20);
  return reply;
}

/** FORGET: `struct fuse_forget_in`. */
function forget(context: Context, request: Request): undefined {
  drop(context, request.nodeId, request.u64(0));
}

/** BATCH_FORGET: `struct fuse_batch_forget_in`, `struct fuse_forget_one`s. */
function batchForget(context: Context, request: Request): undefined {
  const count = request.u32(0);
  for (let index = 0; index < count; index++) drop(context, request.u64(8 + 16 * index), request.u64(16 + 16 * index));
}

function drop(context: Context, id: number, count: number): void {
  const node = context.table.forget(id, count);
  if (node !== undefined) context.forget(node);
}
