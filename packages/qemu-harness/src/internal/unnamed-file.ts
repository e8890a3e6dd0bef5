import { randomUUID } from "node:crypto";
import { closeSync, ftruncateSync, openSync, statfsSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where Linux has a file system in memory. */
const SHARED_MEMORY_DIRECTORY = "/dev/shm";

/**
 * Opens a new file that has no name any more: it is gone with its last descriptor, however processes end.
 *
 * @param content - What it holds.
 * @returns A descriptor to hand to a child, which opens `/dev/fd/N` to read from the beginning; the caller closes it.
 */
export function openUnnamedFile(content: string | Uint8Array = new Uint8Array()): number {
  const descriptor = openUnnamedIn(tmpdir());
  const bytes = Buffer.from(content);
  for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
  return descriptor;
}

/**
 * Opens an unnamed file of zeros to be a machine's memory: in the host's memory where there is room for all of it,
 * because a guest would be killed by a file system that gets full, and on disk elsewhere.
 */
export function openMemoryFile(sizeBytes: number): number {
  const descriptor = openUnnamedIn(roomOf(SHARED_MEMORY_DIRECTORY) >= sizeBytes ? SHARED_MEMORY_DIRECTORY : tmpdir());
  ftruncateSync(descriptor, sizeBytes);
  return descriptor;
}

/** Runs `use` with an unnamed file that is closed afterwards. */
export async function withUnnamedFile<T>(content: Uint8Array, use: (descriptor: number) => Promise<T>): Promise<T> {
  const descriptor = openUnnamedFile(content);
  try {
    return await use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function openUnnamedIn(directory: string): number {
  const path = join(directory, `.qemu-harness-${randomUUID()}`);
  const descriptor = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  return descriptor;
}

/** Bytes that fit in a file system, 0 when there is none. */
function roomOf(directory: string): number {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize;
  } catch {
    return 0;
  }
}
