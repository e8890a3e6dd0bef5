import type { BigIntStats } from "node:fs";
import { direntSize, type Request, replyOf, writeDirent, writeEntry } from "./codec.ts";
import { type Context, validityIn } from "./context.ts";
import { isErrno, Refusal } from "./errno.ts";
import { ENTRY_SIZE, KIND, MAX_IO_SIZE, REPLY_HEADER_SIZE } from "./format/fuse.ts";
import { type Listing, type Node, noteState } from "./node-table.ts";

/** What every directory has besides its entries; their cookies are 1 and 2. */
const DOTS = [".", ".."];
/** Number of an entry whose file has not been looked at. */
const UNKNOWN_INO = 0xffff_ffffn;
/** Positions without a name that a list may have; one with more is begun again. */
const MAX_GAPS = 4096;

/** READDIR: `struct fuse_read_in`. */
export function readdir(context: Context, request: Request): Buffer {
  return list(context, request, false);
}

/** READDIRPLUS: `struct fuse_read_in`. Every entry is answered as if it had been looked up. */
export function readdirplus(context: Context, request: Request): Buffer {
  return list(context, request, true);
}

function list(context: Context, request: Request, plus: boolean): Buffer {
  const node = context.table.directory(request.nodeId);
  const offset = request.u64(8);
  const size = request.u32(16);
  if (size > MAX_IO_SIZE) throw new Refusal("EINVAL");
  // Watched before it is read, so that nothing is missed in between.
  context.watch(node);
  if (offset === 0 || node.listing === undefined) refresh(context, node);
  const names = node.listing?.names ?? [];
  const reply = replyOf(size);
  let at = REPLY_HEADER_SIZE;
  for (let index = offset; index < DOTS.length + names.length; index++) {
    const name = index < DOTS.length ? DOTS[index] : names[index - DOTS.length];
    if (name === undefined) continue;
    const length = direntSize(name, plus);
    if (at + length > reply.length) break;
    const isDot = index < DOTS.length;
    const start = plus ? at + ENTRY_SIZE : at;
    let ino = UNKNOWN_INO;
    let mode = isDot ? KIND.directory : 0;
    if (plus && !isDot) {
      const stats = context.files.look(node, name);
      // Gone since the names were read.
      if (stats === undefined) continue;
      ino = stats.ino;
      mode = Number(stats.mode);
      tell(context, node, name, stats, reply, at);
    }
    writeDirent(reply, start, { name, cookie: index + 1, ino, mode });
    at += length;
  }
  return reply.subarray(0, at);
}

/** Writes the entry's state; without it, the guest looks the name up when it wants to know. */
function tell(context: Context, directory: Node, name: string, stats: BigIntStats, reply: Buffer, at: number): void {
  try {
    const node = context.table.meet(directory, name, stats);
    context.table.remember(node);
    noteState(node, stats);
    writeEntry(reply, at, node.id, stats, validityIn(context, directory, stats), context.owner);
  } catch (error) {
    if (!isErrno(error, "ENFILE")) throw error;
  }
}

/** Reads the names; those that were there keep their positions, so that whoever is in the middle misses nothing. */
function refresh({ files, isHidden }: Context, node: Node): void {
  const there = files.names(node).filter((name) => !isHidden(name));
  const names = new Set(there);
  let { listing } = node;
  if (listing === undefined || listing.names.length > there.length + MAX_GAPS) {
    listing = { names: [], positions: new Map() } satisfies Listing;
    node.listing = listing;
  }
  for (const [name, position] of listing.positions) {
    if (names.has(name)) continue;
    listing.names[position] = undefined;
    listing.positions.delete(name);
  }
  for (const name of there.sort()) {
    if (listing.positions.has(name)) continue;
    listing.positions.set(name, listing.names.length);
    listing.names.push(name);
  }
}
