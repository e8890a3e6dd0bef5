import { constants, readSync, type Stats } from "node:fs";
import { copyFile, type FileHandle, open } from "node:fs/promises";
import type { BlockSource, DisposableBlockSource } from "./block-source.ts";
import { ioErrors, type ReportFileError } from "./errors.ts";
import { kindOf } from "./kind.ts";

/** Ways to get a {@link BlockSource}. */
export interface Sources {
  /** Makes a source over bytes in memory, which its results alias. */
  memory(bytes: Uint8Array): DisposableBlockSource;
  /** Opens a regular file or a block device. */
  file(path: string): Promise<DisposableBlockSource>;
  /** Restricts a source to a part of it, up to its end unless `length` is given; closing the part does not close it. */
  window(source: BlockSource, offset: number, length?: number): DisposableBlockSource;
}

/** Makes the sources of one package. */
export function sources(report: ReportFileError): Sources {
  const assertRange = rangeCheck(report);
  const ioError = ioErrors(report);
  return {
    memory: (bytes) => ({
      sizeBytes: bytes.byteLength,
      async read(offset, length) {
        assertRange(offset, length, bytes.byteLength);
        return bytes.subarray(offset, offset + length);
      },
      readIntoSync(target, offset) {
        assertRange(offset, target.byteLength, bytes.byteLength);
        target.set(bytes.subarray(offset, offset + target.byteLength));
      },
      async close() {},
      async [Symbol.asyncDispose]() {},
    }),

    async file(path) {
      let handle: FileHandle | undefined;
      try {
        // Opening a FIFO would otherwise wait for somebody to write to it, and nothing could interrupt that.
        handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
        const found = await handle.stat();
        const source = handleSource(path, handle, await contentSize(report, path, handle, found), report);
        const canCopy = process.platform === "linux" && found.isFile();
        return canCopy ? { ...source, copyTo: kernelCopy(handle) } : source;
      } catch (error) {
        await handle?.close();
        throw ioError(error, "open", path);
      }
    },

    window(source, offset, length = source.sizeBytes - offset) {
      assertRange(offset, length, source.sizeBytes);
      const readInto = source.readInto?.bind(source);
      const readIntoSync = source.readIntoSync?.bind(source);
      return {
        sizeBytes: length,
        async read(position, count) {
          assertRange(position, count, length);
          return source.read(offset + position, count);
        },
        ...(readInto !== undefined && {
          async readInto(target: Uint8Array, position: number) {
            assertRange(position, target.byteLength, length);
            return readInto(target, offset + position);
          },
        }),
        ...(readIntoSync !== undefined && {
          readIntoSync(target: Uint8Array, position: number) {
            assertRange(position, target.byteLength, length);
            readIntoSync(target, offset + position);
          },
        }),
        async close() {},
        async [Symbol.asyncDispose]() {},
      };
    },
  };
}

function handleSource(
  path: string,
  handle: FileHandle,
  sizeBytes: number,
  report: ReportFileError,
): DisposableBlockSource {
  const assertRange = rangeCheck(report);
  const ioError = ioErrors(report);
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= handle.close();
    return closing;
  };
  const ended = (offset: number): Error =>
    report("truncated", `expected ${sizeBytes} bytes in ${path}, got an end of file`, { offset, path });
  const readInto = async (target: Uint8Array, offset: number): Promise<void> => {
    assertRange(offset, target.byteLength, sizeBytes);
    let done = 0;
    while (done < target.byteLength) {
      const { bytesRead } = await handle
        .read(target, done, target.byteLength - done, offset + done)
        .catch((error: unknown) => {
          throw ioError(error, "read", path);
        });
      if (bytesRead === 0) throw ended(offset + done);
      done += bytesRead;
    }
  };
  const readIntoSync = (target: Uint8Array, offset: number): void => {
    assertRange(offset, target.byteLength, sizeBytes);
    try {
      for (let done = 0; done < target.byteLength; ) {
        const bytesRead = readSync(handle.fd, target, done, target.byteLength - done, offset + done);
        if (bytesRead === 0) throw ended(offset + done);
        done += bytesRead;
      }
    } catch (error) {
      throw ioError(error, "read", path);
    }
  };
  return {
    sizeBytes,
    readInto,
    readIntoSync,
    async read(offset, length) {
      assertRange(offset, length, sizeBytes);
      const target = new Uint8Array(length);
      await readInto(target, offset);
      return target;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Why Linux cannot copy by itself: what is open has no names without /proc, or a file system has none of it. */
const CANNOT_COPY: ReadonlySet<unknown> = new Set(["ENOENT", "ENOTSUP", "ENOSYS", "EINVAL", "EXDEV"]);

function kernelCopy(source: FileHandle): (file: FileHandle) => Promise<boolean> {
  const nameOf = ({ fd }: FileHandle): string => `/proc/self/fd/${fd}`;
  return async (file) => {
    const { mode } = await file.stat();
    try {
      await copyFile(nameOf(source), nameOf(file), constants.COPYFILE_FICLONE);
    } catch (error) {
      if (CANNOT_COPY.has((error as NodeJS.ErrnoException).code)) return false;
      throw error;
    } finally {
      // Copied as well, and none of the content.
      await file.chmod(mode & 0o7777);
    }
    return true;
  };
}

async function contentSize(report: ReportFileError, path: string, handle: FileHandle, stat: Stats): Promise<number> {
  if (stat.isFile()) return stat.size;
  if (!stat.isBlockDevice()) {
    const message = `expected a regular file or a block device at ${path}, got ${kindOf(stat)}`;
    throw report("wrong-type", message, { path });
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

function rangeCheck(report: ReportFileError): (offset: number, length: number, sizeBytes: number) => void {
  return (offset, length, sizeBytes) => {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw report("truncated", `expected a range of bytes, got ${length} bytes from ${offset}`, {});
    }
    if (offset + length > sizeBytes) {
      const message = `expected ${length} bytes, got a source that ends at byte ${sizeBytes}`;
      throw report("truncated", message, { offset });
    }
  };
}
