import type { InPlaceFile } from "@leveret/block-source";
import { DiskImageError } from "../errors.ts";
import { openInPlace } from "../internal/files.ts";
import { isQcow2 } from "../qcow2/header.ts";

export type { InPlaceFile } from "@leveret/block-source";

const PIECE = 1024 * 1024;

/**
 * Opens a raw disk image or a block device for changes.
 *
 * @throws {DiskImageError} `DISK_NOT_FOUND`, `DISK_WRONG_TYPE`, `DISK_IO`, and `DISK_UNSUPPORTED` for qcow2.
 */
export async function openRawDisk(path: string): Promise<InPlaceFile> {
  const disk = await openInPlace(path);
  if (!isQcow2(await disk.source.read(0, Math.min(4, disk.source.sizeBytes)))) return disk;
  await disk[Symbol.asyncDispose]();
  throw new DiskImageError("DISK_UNSUPPORTED", `expected a raw disk in ${path}, got a qcow2 image`, {
    path,
    hint: "qemu-img convert makes a raw disk of it",
  });
}

/** Fills a range with zeros. */
export async function clear(
  disk: InPlaceFile,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const zeros = new Uint8Array(Math.min(PIECE, length));
  for (let done = 0; done < length; done += PIECE) {
    signal?.throwIfAborted();
    await disk.write(offset + done, zeros.subarray(0, Math.min(PIECE, length - done)));
  }
}
