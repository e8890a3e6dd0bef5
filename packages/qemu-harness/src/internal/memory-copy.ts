import { closeSync, fstatSync, openSync, read as readCallback, readFileSync, writeSync } from "node:fs";
import { promisify } from "node:util";
import { QemuError } from "../errors.ts";
import { addRun, dataIn, type Run, unitedRuns } from "./runs.ts";
import { openMemoryFile, openUnnamedFile } from "./unnamed-file.ts";
import { assertNotAborted } from "./wait.ts";

const read = promisify(readCallback);

const PAGE_SIZE = 4096;
const CHUNK_SIZE = 4 * 1024 * 1024;

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
  /** where in that anything other than zeros can be; all of it unless given */
  readonly data?: readonly Run[] | undefined;
  /** whether QEMU keeps what the guest writes to itself, instead of writing it to the file */
  readonly isPrivate: boolean;
}

/** A copy of a machine's memory. */
interface MemoryCopy {
  /** descriptor of an unnamed file */
  readonly file: number;
  /** where in that anything other than zeros can be */
  readonly data: readonly Run[];
}

/**
 * Copies a stopped machine's memory into a new unnamed file.
 *
 * What QEMU keeps to itself is read from it by the kernel's interfaces for debuggers, which are open to the process that
 * has started it.
 *
 * @throws {QemuError} `QEMU_TEMPLATE_FAILED` where the kernel does not allow that, `QEMU_ABORTED`.
 */
export async function copyMemory(memory: MachineMemory, signal: AbortSignal | undefined): Promise<MemoryCopy> {
  const { size } = fstatSync(memory.file);
  const file = openMemoryFile(size);
  try {
    const below = await copyData(memory.file, file, memory.data ?? [[0, size]], signal);
    if (!memory.isPrivate) return { file, data: below };
    return { file, data: unitedRuns(below, await copyPrivate(memory, size, file, signal)) };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

/** Copies an open file into a new unnamed one. @returns Its descriptor. */
export async function copyFile(file: number, signal: AbortSignal | undefined): Promise<number> {
  const target = openUnnamedFile();
  try {
    await copyData(file, target, [[0, fstatSync(file).size]], signal);
    return target;
  } catch (error) {
    closeSync(target);
    throw error;
  }
}

/** @returns What was copied, in order. */
async function copyPrivate(
  { pid, file }: MachineMemory,
  size: number,
  target: number,
  signal: AbortSignal | undefined,
): Promise<readonly Run[]> {
  const opened: number[] = [];
  try {
    const start = addressOf(pid, file, size);
    const pages = openSync(`/proc/${pid}/pagemap`, "r");
    opened.push(pages);
    const contents = openSync(`/proc/${pid}/mem`, "r");
    opened.push(contents);
    const entries = Buffer.alloc((size / PAGE_SIZE) * ENTRY_SIZE);
    await readFully(pages, entries, (start / PAGE_SIZE) * ENTRY_SIZE);
    const written = writtenRuns(entries);
    const chunk = Buffer.allocUnsafe(CHUNK_SIZE);
    for (const [offset, length] of written) {
      for (let done = 0; done < length; ) {
        assertNotAborted(signal);
        const bytes = chunk.subarray(0, Math.min(CHUNK_SIZE, length - done));
        await readFully(contents, bytes, start + offset + done);
        // Zeros too: something else is in their place.
        writeFully(target, bytes, offset + done);
        done += bytes.length;
      }
    }
    return written;
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

/** Runs of pages that are not the file's any more. */
function writtenRuns(entries: Buffer): Run[] {
  const runs: [number, number][] = [];
  for (let page = 0; page < entries.length / ENTRY_SIZE; page += 1) {
    const upper = entries.readInt32LE(page * ENTRY_SIZE + 4);
    if ((upper & (PRESENT | SWAPPED)) !== 0 && (upper & OF_FILE) === 0) addRun(runs, page * PAGE_SIZE, PAGE_SIZE);
  }
  return runs;
}

/** Copies what is not zero in some parts of a file to the same places of another one. @returns What was copied. */
async function copyData(
  source: number,
  target: number,
  parts: readonly Run[],
  signal: AbortSignal | undefined,
): Promise<readonly Run[]> {
  const copied: [number, number][] = [];
  const chunk = Buffer.allocUnsafe(CHUNK_SIZE);
  for (const [offset, length] of parts) {
    for (let done = 0; done < length; ) {
      assertNotAborted(signal);
      const at = offset + done;
      const bytes = chunk.subarray(0, Math.min(CHUNK_SIZE, length - done));
      await readFully(source, bytes, at);
      for (const [start, size] of dataIn(bytes)) {
        writeFully(target, bytes.subarray(start, start + size), at + start);
        addRun(copied, at + start, size);
      }
      done += bytes.length;
    }
  }
  return copied;
}

async function readFully(descriptor: number, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await read(descriptor, into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new Error(`the end after ${done} of ${into.length} bytes`);
    done += bytesRead;
  }
}

function writeFully(descriptor: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(descriptor, bytes, done, bytes.length - done, position + done);
  }
}
