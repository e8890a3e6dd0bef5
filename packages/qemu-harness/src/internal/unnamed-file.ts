import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Opens a new file that has no name any more: it is gone with its last descriptor, however processes end.
 *
 * @param content - What it holds.
 * @returns A descriptor to hand to a child, which opens `/dev/fd/N` to read from the beginning; the caller closes it.
 */
export function openUnnamedFile(content: string | Uint8Array = new Uint8Array()): number {
  const path = join(tmpdir(), `.qemu-harness-${randomUUID()}`);
  const descriptor = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  const bytes = Buffer.from(content);
  for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
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
