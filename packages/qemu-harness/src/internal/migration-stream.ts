import { closeSync, read as readCallback, writeSync } from "node:fs";
import { promisify } from "node:util";
import { openUnnamedFile } from "./unnamed-file.ts";
import { assertNotAborted } from "./wait.ts";

const read = promisify(readCallback);

/** Kinds of sections. QEMU, `migration/savevm.h`. */
const SECTION = { start: 0x01, part: 0x02, end: 0x03, command: 0x08, footer: 0x7e } as const;
/** Flags of a record of memory, in the low bits of its address. QEMU, `migration/ram.c`. */
const RAM = { zero: 0x02, blocks: 0x04, page: 0x08, end: 0x10, continued: 0x20 } as const;
/** What the section of memory begins with: its name, instance 0, version 4. */
const RAM_HEADER = Buffer.from("\x03ram\0\0\0\0\0\0\0\x04", "latin1");

const PAGE_SIZE = 4096;
const WINDOW_SIZE = 1024 * 1024;
/** Kind, number, and length. */
const COMMAND_HEADER = 5;
/** A word, a name behind its length, a page, in `bytes`. */
const MAX_RECORD = 8 + 256 + PAGE_SIZE;
/** Most that comes before the section of memory, in `bytes`. */
const MAX_CONFIGURATION = 64 * 1024;

/**
 * Copies the state of a machine without the pages of one block of memory, which whoever continues it finds elsewhere.
 * Everything else is as it was.
 *
 * QEMU leaves memory out by itself where it is shared (`x-ignore-shared`), which that of a fork is not.
 *
 * @param source - A file that {@link saveState} has written.
 * @param block - Name of the block.
 * @returns Descriptor of a new unnamed file, or undefined for a stream that is not understood.
 * @see QEMU, docs/devel/migration/main, "Stream structure"
 */
export async function withoutPages(
  source: number,
  block: string,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const target = openUnnamedFile();
  try {
    const stream = new Stream(source, target, signal);
    if (await copyLean(stream, block)) {
      await stream.keepRest();
      return target;
    }
    closeSync(target);
    return undefined;
  } catch (error) {
    closeSync(target);
    throw error;
  }
}

/** What there is to know of a record. */
interface Records {
  /** the block that is left out */
  readonly block: string;
  /** whether the last one was of it */
  isOfBlock: boolean;
}

/** @returns Whether the stream is what is known. */
async function copyLean(stream: Stream, block: string): Promise<boolean> {
  await stream.need(MAX_CONFIGURATION);
  const at = stream.indexOf(RAM_HEADER);
  const start = at - 5;
  if (start < 0 || stream.u8(start) !== SECTION.start) return false;
  const section = stream.u32(start + 1);
  stream.keep(at + RAM_HEADER.length);
  const records: Records = { block, isOfBlock: false };
  for (let kind: number = SECTION.start; ; ) {
    if (!(await copyRecords(stream, records))) return false;
    await stream.need(10);
    if (stream.u8(0) !== SECTION.footer || stream.u32(1) !== section) return false;
    stream.keep(5);
    if (kind === SECTION.end) return stream.isWhole;
    if (!(await keepCommands(stream))) return false;
    kind = stream.u8(0);
    if ((kind !== SECTION.part && kind !== SECTION.end) || stream.u32(1) !== section) return false;
    stream.keep(5);
    if (!stream.isWhole) return false;
  }
}

/**
 * Copies what stands between sections since QEMU 10: commands, each with a number and the length of what follows.
 *
 * @returns Whether all of them are there.
 */
async function keepCommands(stream: Stream): Promise<boolean> {
  while (stream.isWhole) {
    await stream.need(COMMAND_HEADER);
    if (stream.u8(0) !== SECTION.command) return true;
    const length = COMMAND_HEADER + (stream.u32(1) % 0x1_0000);
    await stream.need(length + COMMAND_HEADER);
    stream.keep(length);
  }
  return false;
}

/**
 * Copies the records of one section of memory.
 *
 * @param records - Of all sections: a record may be of the block of the last one of the section before.
 * @returns Whether all of them are known.
 */
async function copyRecords(stream: Stream, records: Records): Promise<boolean> {
  for (;;) {
    // Most have all that they need at hand, and are many.
    if (!stream.has(MAX_RECORD)) await stream.need(MAX_RECORD);
    const flags = stream.u32(4) % PAGE_SIZE;
    if (flags === RAM.end) {
      stream.keep(8);
      return stream.isWhole;
    }
    if (flags === RAM.blocks) {
      const total = stream.u64(0) - flags;
      stream.keep(8);
      if (!(await copyBlocks(stream, total))) return false;
      continue;
    }
    const kind = flags & ~RAM.continued;
    if (kind !== RAM.zero && kind !== RAM.page) return false;
    let length = 8;
    if ((flags & RAM.continued) === 0) {
      records.isOfBlock = stream.text(length) === records.block;
      length += 1 + stream.u8(length);
    }
    length += kind === RAM.zero ? 1 : PAGE_SIZE;
    if (records.isOfBlock) stream.drop(length);
    else stream.keep(length);
    if (!stream.isWhole) return false;
  }
}

/** Copies the list of blocks: names, sizes, and addresses, which are there because shared memory is ignored. */
async function copyBlocks(stream: Stream, total: number): Promise<boolean> {
  for (let left = total; left > 0; ) {
    await stream.need(MAX_RECORD);
    const name = 1 + stream.u8(0);
    left -= stream.u64(name);
    stream.keep(name + 16);
    if (left < 0 || !stream.isWhole) return false;
  }
  return true;
}

/** A file that is read in order, and another one that is written in order. Places are those from what is read next on. */
class Stream {
  readonly #source: number;
  readonly #target: number;
  readonly #signal: AbortSignal | undefined;
  readonly #window = Buffer.alloc(WINDOW_SIZE);
  #start = 0;
  #end = 0;
  readonly #out = Buffer.allocUnsafe(WINDOW_SIZE);
  #pending = 0;
  #position = 0;

  constructor(source: number, target: number, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#target = target;
    this.#signal = signal;
  }

  /** Whether nothing was taken that is not there. */
  get isWhole(): boolean {
    return this.#start <= this.#end;
  }

  has(length: number): boolean {
    return this.#end - this.#start >= length;
  }

  /** Reads on until so many bytes are at hand, or there are no more. */
  async need(length: number): Promise<void> {
    if (this.has(length)) return;
    assertNotAborted(this.#signal);
    this.#window.copy(this.#window, 0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    while (this.#end < length) {
      const room = WINDOW_SIZE - this.#end;
      const { bytesRead } = await read(this.#source, this.#window, this.#end, room, this.#position);
      if (bytesRead === 0) return;
      this.#end += bytesRead;
      this.#position += bytesRead;
    }
  }

  u8(at: number): number {
    return this.#window.readUInt8(this.#start + at);
  }

  u32(at: number): number {
    return this.#window.readUInt32BE(this.#start + at);
  }

  u64(at: number): number {
    return Number(this.#window.readBigUInt64BE(this.#start + at));
  }

  /** Text behind its length, of one byte. */
  text(at: number): string {
    const from = this.#start + at + 1;
    return this.#window.toString("latin1", from, from + this.u8(at));
  }

  indexOf(bytes: Uint8Array): number {
    return this.#window.subarray(this.#start, this.#end).indexOf(bytes);
  }

  drop(length: number): void {
    this.#start += length;
  }

  keep(length: number): void {
    if (this.#pending + length > WINDOW_SIZE) this.#flush();
    this.#pending += this.#window.copy(this.#out, this.#pending, this.#start, this.#start + length);
    this.#start += length;
  }

  async keepRest(): Promise<void> {
    for (;;) {
      await this.need(PAGE_SIZE);
      const length = Math.min(PAGE_SIZE, this.#end - this.#start);
      if (length <= 0) break;
      this.keep(length);
    }
    this.#flush();
  }

  #flush(): void {
    for (let done = 0; done < this.#pending; ) done += writeSync(this.#target, this.#out, done, this.#pending - done);
    this.#pending = 0;
  }
}
