import type { BlockSource } from "./block-source.ts";
import { copyTo, writeSparseFile } from "./sink.ts";

/**
 * Copies a source, such as a partition, to a sparse file.
 *
 * @param source - What to copy; not closed.
 * @param path - File to write, beside and then moved into place.
 * @param options - `signal` to abort, `onBytes` called with the count of bytes copied.
 * @throws {DiskImageError} `DISK_FULL` and `DISK_IO`; nothing is left then.
 * @example
 * await extractTo(disk.open("usr-x86-64"), "usr.erofs");
 */
export async function extractTo(
  source: BlockSource,
  path: string,
  options: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (count: number) => void } = {},
): Promise<void> {
  await writeSparseFile(path, source.sizeBytes, (sink) => copyTo(sink, source, 0, options));
}
