import type { BigIntStats } from "node:fs";
import { Refusal } from "./errno.ts";
import { ATTR_SIZE, DIRENT_SIZE, ENTRY_SIZE, KIND, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE } from "./format/fuse.ts";

const NANOSECONDS = 1_000_000_000n;
const MAX_NAME_BYTES = 255;
/** `PATH_MAX` of Linux, which counts the NUL at the end. */
const MAX_PATH_BYTES = 4096;

/** One request of the guest's kernel; what is outside of it is refused with `EINVAL`. */
export class Request {
  readonly opcode: number;
  /** what the reply has to carry */
  readonly unique: bigint;
  readonly nodeId: number;
  readonly #frame: Buffer;

  /**
   * @param frame - Header and body, at least as long as a header.
   */
  constructor(frame: Buffer) {
    this.#frame = frame;
    this.opcode = frame.readUInt32LE(4);
    this.unique = frame.readBigUInt64LE(8);
    this.nodeId = Number(frame.readBigUInt64LE(16));
  }

  /** Number of 32 bits at an offset of the body. */
  u32(offset: number): number {
    return this.#frame.readUInt32LE(this.#at(offset, 4));
  }

  /** Number of 64 bits at an offset of the body, which has to be exact as a `number`: nothing sensible is not. */
  u64(offset: number): number {
    const value = Number(this.#frame.readBigUInt64LE(this.#at(offset, 8)));
    if (!Number.isSafeInteger(value)) throw new Refusal("EINVAL");
    return value;
  }

  /** Seconds, possibly before 1970, at one offset of the body and nanoseconds at another one. */
  seconds(offset: number, nanosecondsOffset: number): number {
    const whole = Number(this.#frame.readBigInt64LE(this.#at(offset, 8)));
    const seconds = whole + this.u32(nanosecondsOffset) / 1e9;
    if (!Number.isSafeInteger(whole)) throw new Refusal("EINVAL");
    return seconds;
  }

  /** Bytes of the body. */
  bytes(offset: number, length: number): Buffer {
    const start = this.#at(offset, length);
    return this.#frame.subarray(start, start + length);
  }

  /**
   * Strings that each end with a NUL, and fill the body from an offset on.
   *
   * @returns As one character per byte, which loses nothing of names that are not UTF-8.
   */
  strings(offset: number, count: number): string[] {
    const bytes = this.#frame.subarray(this.#at(offset, 0));
    if (bytes.at(-1) !== 0) throw new Refusal("EINVAL");
    const parts = bytes.subarray(0, -1).toString("latin1").split("\0");
    if (parts.length !== count) throw new Refusal("EINVAL");
    return parts;
  }

  #at(offset: number, length: number): number {
    const start = REQUEST_HEADER_SIZE + offset;
    if (start + length > this.#frame.length) throw new Refusal("EINVAL");
    return start;
  }
}

/**
 * Checks that a name is one, of an entry of a directory.
 *
 * @throws {Refusal} `EINVAL`, `ENAMETOOLONG`: a kernel never asks for such, and they could lead out of the directory.
 */
export function checkName(name: string | undefined): string {
  if (name === undefined || name === "" || name === "." || name === ".." || name.includes("/") || name.includes("\0")) {
    throw new Refusal("EINVAL");
  }
  if (name.length > MAX_NAME_BYTES) throw new Refusal("ENAMETOOLONG");
  return name;
}

/** Checks what a symbolic link is to lead to; where that is, is the guest's own affair. */
export function checkTarget(target: string | undefined): string {
  if (target === undefined || target === "") throw new Refusal("ENOENT");
  if (target.length >= MAX_PATH_BYTES) throw new Refusal("ENAMETOOLONG");
  return target;
}

/** A reply that succeeds, with room for `size` bytes behind its header; `unique` is filled in by {@link finishReply}. */
export function replyOf(size: number): Buffer {
  return Buffer.alloc(REPLY_HEADER_SIZE + size);
}

/** Completes a reply. */
export function finishReply(reply: Buffer, unique: bigint): Buffer {
  reply.writeUInt32LE(reply.length, 0);
  reply.writeBigUInt64LE(unique, 8);
  return reply;
}

/** A reply that refuses. */
export function errorReply(unique: bigint, errno: number): Buffer {
  const reply = replyOf(0);
  reply.writeInt32LE(-errno, 4);
  return finishReply(reply, unique);
}

/** A message that nobody asked for. */
export function encodeNotice(code: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const notice = Buffer.concat([replyOf(0), body]);
  notice.writeInt32LE(code, 4);
  return finishReply(notice, 0n);
}

/** Who owns files, as the guest sees it. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Writes `struct fuse_attr`. */
function writeAttr(buffer: Buffer, offset: number, stats: BigIntStats, owner: Owner): void {
  buffer.writeBigUInt64LE(BigInt.asUintN(64, stats.ino), offset);
  buffer.writeBigUInt64LE(stats.size, offset + 8);
  buffer.writeBigUInt64LE(stats.blocks, offset + 16);
  writeTime(buffer, offset + 24, offset + 48, stats.atimeNs);
  writeTime(buffer, offset + 32, offset + 52, stats.mtimeNs);
  writeTime(buffer, offset + 40, offset + 56, stats.ctimeNs);
  buffer.writeUInt32LE(Number(stats.mode), offset + 60);
  buffer.writeUInt32LE(Number(stats.nlink), offset + 64);
  buffer.writeUInt32LE(owner.uid, offset + 68);
  buffer.writeUInt32LE(owner.gid, offset + 72);
  // No device of the host is one in the guest.
  buffer.writeUInt32LE(0, offset + 76);
  buffer.writeUInt32LE(Number(stats.blksize), offset + 80);
}

/** For how long the guest may believe what it is told, in `seconds`. */
export interface Validity {
  readonly entry: number;
  readonly attr: number;
}

/** Writes `struct fuse_entry_out`. */
export function writeEntry(
  buffer: Buffer,
  offset: number,
  nodeId: number,
  stats: BigIntStats,
  validity: Validity,
  owner: Owner,
): void {
  buffer.writeBigUInt64LE(BigInt(nodeId), offset);
  writeSeconds(buffer, offset + 16, offset + 32, validity.entry);
  writeSeconds(buffer, offset + 24, offset + 36, validity.attr);
  writeAttr(buffer, offset + 40, stats, owner);
}

/** Reply that a name does not exist, which the guest may remember. */
export function absentReply(validSeconds: number): Buffer {
  const reply = replyOf(ENTRY_SIZE);
  writeSeconds(reply, REPLY_HEADER_SIZE + 16, REPLY_HEADER_SIZE + 32, validSeconds);
  return reply;
}

/** Reply with `struct fuse_attr_out`. */
export function attrReply(stats: BigIntStats, validSeconds: number, owner: Owner): Buffer {
  const reply = replyOf(16 + ATTR_SIZE);
  writeSeconds(reply, REPLY_HEADER_SIZE, REPLY_HEADER_SIZE + 8, validSeconds);
  writeAttr(reply, REPLY_HEADER_SIZE + 16, stats, owner);
  return reply;
}

/** Length of an entry of a directory with its padding, in `bytes`. */
export function direntSize(name: string, plus: boolean): number {
  return Math.ceil(((plus ? ENTRY_SIZE : 0) + DIRENT_SIZE + name.length) / 8) * 8;
}

/** Writes `struct fuse_dirent`. */
export function writeDirent(
  buffer: Buffer,
  offset: number,
  { name, cookie, ino, mode }: { name: string; cookie: number; ino: bigint; mode: number },
): void {
  buffer.writeBigUInt64LE(BigInt.asUintN(64, ino), offset);
  buffer.writeBigUInt64LE(BigInt(cookie), offset + 8);
  buffer.writeUInt32LE(name.length, offset + 16);
  // The kinds of readdir(3) are those of a mode, shifted.
  buffer.writeUInt32LE((mode & KIND.mask) >> 12, offset + 20);
  buffer.write(name, offset + DIRENT_SIZE, "latin1");
}

function writeTime(buffer: Buffer, seconds: number, nanoseconds: number, timeNs: bigint): void {
  // Rounded down, also before 1970.
  const rest = ((timeNs % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
  buffer.writeBigUInt64LE(BigInt.asUintN(64, (timeNs - rest) / NANOSECONDS), seconds);
  buffer.writeUInt32LE(Number(rest), nanoseconds);
}

function writeSeconds(buffer: Buffer, offset: number, nanosecondsOffset: number, seconds: number): void {
  buffer.writeBigUInt64LE(BigInt(Math.floor(seconds)), offset);
  buffer.writeUInt32LE(Math.floor((seconds % 1) * 1e9), nanosecondsOffset);
}
