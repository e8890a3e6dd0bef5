import {
  type BlockSource,
  type DisposableBlockSource,
  type HttpSourceOptions,
  httpSourceOptions,
} from "@leveret/block-source";
import { files, openHttp } from "./internal/files.ts";
import { parseOptions } from "./options.ts";

export {
  type BlockSource,
  type ByteSink,
  DEFAULT_HTTP_TIMEOUT_MS,
  DEFAULT_MAX_HTTP_CACHE_BYTES,
  type DisposableBlockSource,
  type HttpSourceOptions,
} from "@leveret/block-source";

/**
 * Makes a source over bytes in memory.
 *
 * @param bytes - Aliased, not copied: keep it unchanged while the source is in use.
 * @returns A source whose `read` results alias `bytes`.
 * @example
 * const source = memorySource(new Uint8Array(await readFile("disk.raw")));
 */
export function memorySource(bytes: Uint8Array): DisposableBlockSource {
  return files.memory(bytes);
}

/**
 * Opens a file or block device as a source.
 *
 * @param path - File to read; opened read-only until `close`.
 * @returns A source that holds one file descriptor.
 * @throws {DiskImageError} `DISK_NOT_FOUND` when there is no such file, `DISK_WRONG_TYPE` for a directory, FIFO or
 *   character device, `DISK_IO` when it cannot be opened.
 * @example
 * await using source = await fileSource("disk.raw");
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
 * @throws {DiskImageError} `DISK_TRUNCATED` when the window reaches beyond `source`.
 * @example
 * const partition = windowSource(disk, 1024 * 1024, 64 * 1024 * 1024);
 */
export function windowSource(source: BlockSource, offset: number, length?: number): DisposableBlockSource {
  return files.window(source, offset, length);
}

/**
 * Opens a file on a web server as a source, which is read with requests for its parts; what is read in small pieces is
 * requested in larger ones and kept for a while.
 *
 * @param url - Where the file is, `http:` or `https:`.
 * @param options - Headers, deadline and how much is kept; see {@link HttpSourceOptions}.
 * @returns A source of the version that was there when it was opened.
 * @throws {DiskImageError} `DISK_NOT_FOUND` when there is no such file, `DISK_HTTP` when the server does not answer requests for
 *   parts or answers them wrongly, `DISK_TRUNCATED`, `DISK_TIMEOUT`, `DISK_IO` when it cannot be reached,
 *   `DISK_BAD_OPTIONS`. Reads throw the same, and `DISK_CHANGED` once there is another version of the file. An abort
 *   throws the signal's reason.
 * @see RFC 9110, "Range Requests"
 * @example
 * await using source = await httpSource("https://example.org/os.raw");
 */
export async function httpSource(url: string, options: HttpSourceOptions = {}): Promise<DisposableBlockSource> {
  return openHttp(url, parseOptions(httpSourceOptions(), options));
}
