import type { BlockSource, DisposableBlockSource } from "@leveret/block-source";
import { files } from "./internal/files.ts";

export type { BlockSource, ByteSink, DisposableBlockSource } from "@leveret/block-source";

/**
 * Makes a source over bytes in memory.
 *
 * @param bytes - Aliased, not copied: keep it unchanged while the source is in use.
 * @returns A source whose `read` results alias `bytes`.
 * @example
 * const source = memorySource(new Uint8Array(await readFile("usr.erofs")));
 */
export function memorySource(bytes: Uint8Array): DisposableBlockSource {
  return files.memory(bytes);
}

/**
 * Opens a file or block device as a source.
 *
 * @param path - File to read; opened read-only until `close`.
 * @returns A source that holds one file descriptor.
 * @throws {ErofsError} `EROFS_NOT_FOUND` when there is no such file, `EROFS_WRONG_TYPE` for a directory, FIFO or
 *   character device, `EROFS_IO` when it cannot be opened.
 * @example
 * await using source = await fileSource("usr.erofs");
 */
export async function fileSource(path: string): Promise<DisposableBlockSource> {
  return files.file(path);
}

/**
 * Restricts a source to a part of it, such as one partition of a disk image.
 *
 * @param source - Source to look into; closing the window does not close it.
 * @param offset - First byte of the window.
 * @param length - Length in bytes; up to the end of `source` when left out.
 * @returns A source of `length` bytes.
 * @throws {ErofsError} `EROFS_TRUNCATED` when the window reaches beyond `source`.
 * @example
 * const partition = windowSource(disk, 1024 * 1024, 64 * 1024 * 1024);
 */
export function windowSource(source: BlockSource, offset: number, length?: number): DisposableBlockSource {
  return files.window(source, offset, length);
}
