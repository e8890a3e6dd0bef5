import { randomBytes } from "node:crypto";
import {
  type BigIntStats,
  chmodSync,
  closeSync,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { absentReply, checkName, checkTarget, type Request, replyOf } from "./codec.ts";
import { absenceIn, type Context, noteDirectory, tellEntry } from "./context.ts";
import { isErrno, Refusal } from "./errno.ts";
import { ENTRY_SIZE, KIND, RENAME, REPLY_HEADER_SIZE } from "./format/fuse.ts";
import { CREATE_FLAGS } from "./host-files.ts";
import { kindOf, type Node, noteState } from "./node-table.ts";

/** What the guest may set: a program of the host must not get its owner's rights by what a guest does. */
const SETTABLE_MODE = 0o777;
/** `O_EXCL` and `O_TRUNC` of the guest. */
const GUEST_O_EXCL = 0o200;
const GUEST_O_TRUNC = 0o1000;
/** After so many names of a directory it is likely that the others are wanted too. */
const SINGLY_BEFORE_PREFETCH = 4;
/** Length of `struct fuse_open_out`, and its flag to keep what is remembered of the contents. */
const OPEN_SIZE = 16;
const FOPEN_KEEP_CACHE = 2;

/** Mode that a file is given when the guest wants `mode`. */
export function allowedMode(kind: number, mode: number): number {
  return mode & (kind === KIND.directory ? SETTABLE_MODE | 0o1000 : SETTABLE_MODE);
}

/** LOOKUP: name. */
export function lookup(context: Context, request: Request): Buffer {
  const parent = context.table.directory(request.nodeId);
  const name = checkName(request.strings(0, 1)[0]);
  if (context.isHidden(name)) return absentReply(absenceIn(context, parent));
  // Watched before it is looked at, so that nothing is missed in between.
  const validSeconds = absenceIn(context, parent);
  const stats = context.files.look(parent, name);
  if (stats !== undefined) {
    parent.singly += 1;
    if (parent.singly === SINGLY_BEFORE_PREFETCH && parent.listing === undefined) context.prefetch(parent);
    return tellEntry(context, parent, name, stats);
  }
  context.table.leave(parent, name);
  return absentReply(validSeconds);
}

/** CREATE: `struct fuse_create_in`, name. */
export function create(context: Context, request: Request): Buffer {
  const flags = request.u32(0);
  const mode = allowedMode(KIND.file, request.u32(4));
  const { parent, name } = newPlace(context, request, 16);
  const stats = makeFile(context, parent, name, mode, flags);
  const reply = tellEntry(context, parent, name, stats, OPEN_SIZE);
  reply.writeUInt32LE(FOPEN_KEEP_CACHE, REPLY_HEADER_SIZE + ENTRY_SIZE + 8);
  return reply;
}

/** MKNOD: `struct fuse_mknod_in`, name. Devices, pipes and sockets would be those of the host. */
export function mknod(context: Context, request: Request): Buffer {
  const mode = request.u32(0);
  const { parent, name } = newPlace(context, request, 16);
  if ((mode & KIND.mask) !== KIND.file && (mode & KIND.mask) !== 0) throw new Refusal("EPERM");
  return tellEntry(context, parent, name, makeFile(context, parent, name, allowedMode(KIND.file, mode), GUEST_O_EXCL));
}

/** MKDIR: `struct fuse_mkdir_in`, name. */
export function mkdir(context: Context, request: Request): Buffer {
  const mode = allowedMode(KIND.directory, request.u32(0));
  const { parent, name } = newPlace(context, request, 8);
  mkdirSync(context.files.path(parent, name), mode);
  const reply = tellEntry(context, parent, name, lookAgain(context, parent, name));
  const node = parent.children.get(name);
  const made = node === undefined ? mode : Number(context.files.state(node).mode) & 0o7777;
  noteDirectory(context, parent);
  if (node === undefined || (made & ~0o6000) === mode) return reply;
  // The host's umask is not the guest's.
  context.files.withPath(node, (path) => chmodSync(path, mode));
  context.table.forget(node.id, 1);
  return tellEntry(context, parent, name, lookAgain(context, parent, name));
}

/** SYMLINK: name, target. */
export function symlink(context: Context, request: Request): Buffer {
  const parent = context.table.directory(request.nodeId);
  const [name, target] = request.strings(0, 2);
  const place = checkNew(context, checkName(name));
  symlinkSync(Buffer.from(checkTarget(target), "latin1"), context.files.path(parent, place));
  const reply = tellEntry(context, parent, place, lookAgain(context, parent, place));
  noteDirectory(context, parent);
  return reply;
}

/** LINK: `struct fuse_link_in`, name. */
export function link(context: Context, request: Request): Buffer {
  const node = context.table.get(request.u64(0));
  const { parent, name } = newPlace(context, request, 8);
  if (node.kind === KIND.directory) throw new Refusal("EPERM");
  const { place } = context.files.find(node);
  linkSync(context.files.path(place.parent, place.name), context.files.path(parent, name));
  const reply = tellEntry(context, parent, name, lookAgain(context, parent, name));
  noteDirectory(context, parent);
  return reply;
}

/** UNLINK: name. */
export function unlink(context: Context, request: Request): Buffer {
  const { parent, name } = oldPlace(context, request, 0);
  removing(context, parent, name, () => unlinkSync(context.files.path(parent, name)));
  context.table.leave(parent, name);
  noteDirectory(context, parent);
  return replyOf(0);
}

/** RMDIR: name. */
export function rmdir(context: Context, request: Request): Buffer {
  const { parent, name } = oldPlace(context, request, 0);
  rmdirSync(context.files.path(parent, name));
  context.table.leave(parent, name);
  noteDirectory(context, parent);
  return replyOf(0);
}

/** RENAME: new directory, names. */
export function rename(context: Context, request: Request): Buffer {
  return move(context, request, 8, 0);
}

/** RENAME2: new directory, flags, names. */
export function rename2(context: Context, request: Request): Buffer {
  return move(context, request, 16, request.u32(8));
}

function move(context: Context, request: Request, namesAt: number, flags: number): Buffer {
  const { table, files } = context;
  const parent = table.directory(request.nodeId);
  const target = table.directory(request.u64(0));
  const [first, second] = request.strings(namesAt, 2);
  const name = checkOld(context, checkName(first));
  const newName = checkNew(context, checkName(second));
  const [from, to] = [files.path(parent, name), files.path(target, newName)];
  if (flags === RENAME.noReplace) moveToNothing(context, parent, name, target, newName);
  else if (flags === RENAME.exchange) exchange(context, parent, name, target, newName);
  else if (flags === 0) removing(context, target, newName, () => renameSync(from, to));
  else throw new Refusal("EINVAL");
  const moved = parent.children.get(name);
  const replaced = target.children.get(newName);
  // Two names of one file are both kept.
  if (moved === undefined || moved !== replaced) {
    table.leave(parent, name);
    table.leave(target, newName);
    if (moved !== undefined) table.place(moved, target, newName);
    if (flags === RENAME.exchange && replaced !== undefined) table.place(replaced, parent, name);
  }
  noteDirectory(context, parent);
  if (target !== parent) noteDirectory(context, target);
  // A change of name is a change of state, of which the guest's kernel knows.
  for (const node of new Set([moved, replaced])) if (node !== undefined) noteAgain(context, node);
  return replyOf(0);
}

/** Node has no call that does it at once; each way fails, and changes nothing, when something is there. */
function moveToNothing({ files }: Context, parent: Node, name: string, target: Node, newName: string): void {
  const stats = files.look(parent, name);
  if (stats === undefined) throw new Refusal("ENOENT");
  const [from, to] = [files.path(parent, name), files.path(target, newName)];
  if (kindOf(stats) === KIND.directory) {
    mkdirSync(to);
    try {
      // Replaces a directory that is empty.
      renameSync(from, to);
    } catch (error) {
      rmdirSync(to);
      throw error;
    }
  } else {
    linkSync(from, to);
    unlinkSync(from);
  }
}

/** Not at once, as other programs of the host see it; but what fails in the middle is undone. */
function exchange({ files }: Context, parent: Node, name: string, target: Node, newName: string): void {
  const [from, to] = [files.path(parent, name), files.path(target, newName)];
  if (files.look(parent, name) === undefined) throw new Refusal("ENOENT");
  const aside = files.path(target, `.leveret-exchange-${randomBytes(8).toString("hex")}`);
  renameSync(to, aside);
  try {
    renameSync(from, to);
  } catch (error) {
    renameSync(aside, to);
    throw error;
  }
  try {
    renameSync(aside, from);
  } catch (error) {
    renameSync(to, from);
    renameSync(aside, to);
    throw error;
  }
}

/** Does what removes a name; what the guest may have open behind it is held. */
function removing({ files }: Context, parent: Node, name: string, remove: () => void): void {
  const node = parent.children.get(name);
  const last = node !== undefined && node.kind !== KIND.directory && node.places.length === 1 ? node : undefined;
  try {
    if (last !== undefined) files.hold(last);
  } catch (error) {
    // The host has put something else there.
    if (!isErrno(error, "ESTALE")) throw error;
  }
  try {
    remove();
  } catch (error) {
    if (last !== undefined) files.unhold(last);
    throw error;
  }
}

function makeFile(context: Context, parent: Node, name: string, mode: number, flags: number): BigIntStats {
  const path = context.files.path(parent, name);
  let descriptor: number;
  try {
    descriptor = openSync(path, CREATE_FLAGS, mode);
  } catch (error) {
    // The host was faster than the guest, which takes the file as it is.
    if (!isErrno(error, "EEXIST") || (flags & GUEST_O_EXCL) !== 0) throw error;
    return takeFile(context, parent, name, flags);
  }
  try {
    if ((fstatSync(descriptor).mode & SETTABLE_MODE) !== mode) fchmodSync(descriptor, mode);
    const stats = fstatSync(descriptor, { bigint: true });
    const node = context.table.meet(parent, name, stats);
    context.files.adopt(node, descriptor, true);
    noteDirectory(context, parent);
    return stats;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

function takeFile(context: Context, parent: Node, name: string, flags: number): BigIntStats {
  const node = context.table.meet(parent, name, lookAgain(context, parent, name));
  if ((flags & GUEST_O_TRUNC) !== 0) {
    const file = context.files.acquire(node, true);
    try {
      ftruncateSync(file.descriptor, 0);
    } finally {
      context.files.release(file);
    }
  }
  return lookAgain(context, parent, name);
}

function noteAgain({ files }: Context, node: Node): void {
  try {
    noteState(node, files.state(node));
  } catch (error) {
    if (!isErrno(error, "ESTALE")) throw error;
  }
}

function lookAgain({ files }: Context, parent: Node, name: string): BigIntStats {
  const stats = files.look(parent, name);
  if (stats === undefined) throw new Refusal("ENOENT");
  return stats;
}

function newPlace(context: Context, request: Request, nameAt: number): { parent: Node; name: string } {
  const parent = context.table.directory(request.nodeId);
  return { parent, name: checkNew(context, checkName(request.strings(nameAt, 1)[0])) };
}

function oldPlace(context: Context, request: Request, nameAt: number): { parent: Node; name: string } {
  const parent = context.table.directory(request.nodeId);
  return { parent, name: checkOld(context, checkName(request.strings(nameAt, 1)[0])) };
}

/** A name that is hidden cannot be made: the host would take it for its own. */
function checkNew({ isHidden }: Context, name: string): string {
  if (isHidden(name)) throw new Refusal("EACCES");
  return name;
}

/** A name that is hidden is not there. */
function checkOld({ isHidden }: Context, name: string): string {
  if (isHidden(name)) throw new Refusal("ENOENT");
  return name;
}
