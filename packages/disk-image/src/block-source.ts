import { constants, type Stats } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { DiskImageError } from "./errors.ts";
import { ioError } from "./internal/io-error.ts";

/**
 * Random access to bytes: a file, memory, a partition of a disk. Everything in this package that reads takes one, so an
 * image never has to fit in memory. Any object of this shape will do, such as a source of `@leveret/erofs-meta`.
 */
export interface BlockSource {
  /** length in `bytes` */
  readonly sizeBytes: number;
  /**
   * Reads exactly `length` bytes; fails rather than returning fewer. The result may alias the source's own memory, so
   * callers treat it as read-only.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Releases what the source holds; calling it again does nothing. */
  close(): Promise<void>;
}

/** A {@link BlockSource} that `await using` closes. */
export type DisposableBlockSource = BlockSource & AsyncDisposable;

/**
 * Makes a source over bytes in memory.
 *
 * @param bytes - Aliased, not copied: keep it unchanged while the source is in use.
 * @returns A source whose `read` results alias `bytes`.
 * @example
 * const source = memorySource(new Uint8Array(await readFile("disk.raw")));
 */
export function memorySource(bytes: Uint8Array): DisposableBlockSource {
  return {
    sizeBytes: bytes.byteLength,
    async read(offset, length) {
      assertRange(offset, length, bytes.byteLength);
      return bytes.subarray(offset, offset + length);
    },
    async close() {},
    async [Symbol.asyncDispose]() {},
  };
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
  let handle: FileHandle | undefined;
  try {
    // Opening a FIFO would otherwise wait for somebody to write to it, and nothing could interrupt that.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return handleSource(path, handle, await contentSize(path, handle));
  } catch (error) {
    await handle?.close();
    throw ioError(error, "open", path);
  }
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
export function windowSource(
  source: BlockSource,
  offset: number,
  length: number = source.sizeBytes - offset,
): DisposableBlockSource {
  assertRange(offset, length, source.sizeBytes);
  return {
    sizeBytes: length,
    async read(position, count) {
      assertRange(position, count, length);
      return source.read(offset + position, count);
    },
    async close() {},
    async [Symbol.asyncDispose]() {},
  };
}

function handleSource(path: string, handle: FileHandle, sizeBytes: number): DisposableBlockSource {
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= handle.close();
    return closing;
  };
  return {
    sizeBytes,
    async read(offset, length) {
      assertRange(offset, length, sizeBytes);
      const target = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(target, done, length - done, offset + done).catch((error: unknown) => {
          throw ioError(error, "read", path);
        });
        if (bytesRead === 0) {
          throw new DiskImageError("DISK_TRUNCATED", `expected ${sizeBytes} bytes in ${path}, got an end of file`, {
            offset: offset + done,
            path,
          });
        }
        done += bytesRead;
      }
      return target;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function contentSize(path: string, handle: FileHandle): Promise<number> {
  const stat = await handle.stat();
  if (stat.isFile()) return stat.size;
  if (!stat.isBlockDevice()) {
    const message = `expected a regular file or a block device at ${path}, got ${kindOf(stat)}`;
    throw new DiskImageError("DISK_WRONG_TYPE", message, { path });
  }
  // A block device reports size 0; the largest readable position is found by bisection because Node has no BLKGETSIZE64.
  const probe = new Uint8Array(1);
  const isReadable = async (offset: number): Promise<boolean> =>
    (await handle.read(probe, 0, 1, offset)).bytesRead === 1;
  let low = 0;
  let high = Number.MAX_SAFE_INTEGER;
  while (low < high) {
    const middle = Math.floor((high - low) / 2) + low;
    if (await isReadable(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return "a directory";
  return stat.isFIFO() ? "a FIFO" : "something else";
}

function assertRange(offset: number, length: number, sizeBytes: number): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new DiskImageError("DISK_TRUNCATED", `expected a range of bytes, got ${length} bytes from ${offset}`);
  }
  if (offset + length > sizeBytes) {
    throw new DiskImageError(
      "DISK_TRUNCATED",
      `expected ${length} bytes, got a source that ends at byte ${sizeBytes}`,
      {
        offset,
      },
    );
  }
}
