import { closeSync, fstatSync, openSync, read as readCallback, readFileSync, writeSync } from "node:fs";
import { promisify } from "node:util";
import { isZero } from "@leveret/block-source";
import { QemuError } from "../errors.ts";
import { openMemoryFile, openUnnamedFile } from "./unnamed-file.ts";
import { assertNotAborted } from "./wait.ts";

const read = promisify(readCallback);

const PAGE_SIZE = 4096;
const CHUNK_SIZE = 4 * 1024 * 1024;
/** Zeros are not written, in blocks of so many `bytes`: that part of the new file takes no room. */
const BLOCK_SIZE = 64 * 1024;

/** An entry of /proc/PID/pagemap: eight bytes for a page. See Linux, `Documentation/admin-guide/mm/pagemap.rst`. */
const ENTRY_SIZE = 8;
/** Bits of an entry's upper half: present, in swap, of the file or shared. */
const PRESENT = 1 << 31;
const SWAPPED = 1 << 30;
const OF_FILE = 1 << 29;

/** What the kernel answers whoever may not read another process's memory, and what allows it. */
const NOT_ALLOWED: readonly string[] = ["EACCES", "EPERM"];
const TO_ALLOW =
  "the kernel has to let a process read the memory of what it has started: kernel.yama.ptrace_scope of 0 or 1";

/** A stopped machine's memory. */
interface MachineMemory {
  /** of QEMU */
  readonly pid: number;
  /** descriptor of the file that its memory began as */
  readonly file: number;
  /** whether QEMU keeps what the guest writes to itself, instead of writing it to the file */
  readonly isPrivate: boolean;
}

/**
 * Copies a stopped machine's memory into a new unnamed file.
 *
 * What QEMU keeps to itself is read from it by the kernel's interfaces for debuggers, which are open to the process that
 * has started it.
 *
 * @returns Descriptor of the new file.
 * @throws {QemuError} `QEMU_TEMPLATE_FAILED` where the kernel does not allow that, `QEMU_ABORTED`.
 */
export async function copyMemory(memory: MachineMemory, signal: AbortSignal | undefined): Promise<number> {
  const { size } = fstatSync(memory.file);
  const target = openMemoryFile(size);
  try {
    await copyData(memory.file, target, { from: 0, length: size, at: 0, signal });
    if (memory.isPrivate) await copyPrivate(memory, size, target, signal);
    return target;
  } catch (error) {
    closeSync(target);
    throw error;
  }
}

/** Copies an open file into a new unnamed one. @returns Its descriptor. */
export async function copyFile(file: number, signal: AbortSignal | undefined): Promise<number> {
  const target = openUnnamedFile();
  try {
    await copyData(file, target, { from: 0, length: fstatSync(file).size, at: 0, signal });
    return target;
  } catch (error) {
    closeSync(target);
    throw error;
  }
}

async function copyPrivate(
  { pid, file }: MachineMemory,
  size: number,
  target: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const opened: number[] = [];
  try {
    const start = addressOf(pid, file, size);
    const pages = openSync(`/proc/${pid}/pagemap`, "r");
    opened.push(pages);
    const contents = openSync(`/proc/${pid}/mem`, "r");
    opened.push(contents);
    const entries = Buffer.alloc((size / PAGE_SIZE) * ENTRY_SIZE);
    await readFully(pages, entries, (start / PAGE_SIZE) * ENTRY_SIZE);
    for (const [page, count] of writtenPages(entries)) {
      const at = page * PAGE_SIZE;
      await copyData(contents, target, { from: start + at, length: count * PAGE_SIZE, at, signal, zeros: true });
    }
  } catch (cause) {
    assertNotAborted(signal);
    if (cause instanceof QemuError) throw cause;
    const { code = "", message: got } = cause as NodeJS.ErrnoException;
    throw new QemuError("QEMU_TEMPLATE_FAILED", `expected to copy the memory of process ${pid}, got: ${got}`, {
      cause,
      hint: NOT_ALLOWED.includes(code) ? TO_ALLOW : undefined,
    });
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}

/** Where in QEMU's address space a file is, in `bytes`. */
function addressOf(pid: number, file: number, size: number): number {
  const { ino } = fstatSync(file);
  // address-address permissions offset device inode path
  for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
    const [, start = "", end = "", inode] = /^([0-9a-f]+)-([0-9a-f]+) rw.p 0+ \S+ (\d+)/.exec(line) ?? [];
    if (Number(inode) !== ino) continue;
    const address = Number.parseInt(start, 16);
    if (Number.parseInt(end, 16) - address === size) return address;
  }
  throw new QemuError("QEMU_TEMPLATE_FAILED", `expected ${size} bytes of memory in process ${pid}, got none`);
}

/** Runs of pages that are not the file's any more: first page and number of pages. */
function* writtenPages(entries: Buffer): Generator<[number, number]> {
  let start = -1;
  const count = entries.length / ENTRY_SIZE;
  for (let page = 0; page <= count; page += 1) {
    const upper = page < count ? entries.readInt32LE(page * ENTRY_SIZE + 4) : 0;
    const written = (upper & (PRESENT | SWAPPED)) !== 0 && (upper & OF_FILE) === 0;
    if (written && start < 0) start = page;
    if (!written && start >= 0) {
      yield [start, page - start];
      start = -1;
    }
  }
}

interface CopyOptions {
  readonly from: number;
  readonly length: number;
  /** where it goes */
  readonly at: number;
  readonly signal: AbortSignal | undefined;
  /** whether zeros are written: something else is in their place */
  readonly zeros?: boolean;
}

async function copyData(source: number, target: number, options: CopyOptions): Promise<void> {
  const { from, length, at, signal, zeros = false } = options;
  const chunk = Buffer.allocUnsafe(Math.min(CHUNK_SIZE, length));
  for (let done = 0; done < length; done += chunk.length) {
    assertNotAborted(signal);
    const bytes = chunk.subarray(0, Math.min(chunk.length, length - done));
    await readFully(source, bytes, from + done);
    for (let block = 0; block < bytes.length; block += zeros ? bytes.length : BLOCK_SIZE) {
      const end = zeros ? bytes.length : Math.min(block + BLOCK_SIZE, bytes.length);
      if (!zeros && isZero(bytes, block, end)) continue;
      for (let put = block; put < end; ) put += writeSync(target, bytes, put, end - put, at + done + put);
    }
  }
}

async function readFully(descriptor: number, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await read(descriptor, into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new Error(`the end after ${done} of ${into.length} bytes`);
    done += bytesRead;
  }
}
