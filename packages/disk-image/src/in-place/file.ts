import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { BlockSource, ByteSink } from "../block-source.ts";
import { fileSource } from "../block-source.ts";
import { DiskImageError } from "../errors.ts";
import { ioError } from "../internal/files.ts";
import { isQcow2 } from "../qcow2/header.ts";

/** Files are compared with what is written to them in units of this many bytes, the block size of file systems. */
const UNIT = 4096;
const PIECE = 1024 * 1024;

/** A raw disk image or a block device that is changed where it lies. */
export interface InPlaceFile extends ByteSink, AsyncDisposable {
  readonly source: BlockSource;
  /** fills a range with zeros */
  clear(offset: number, length: number, signal: AbortSignal | undefined): Promise<void>;
  /** returns when everything written is on the disk */
  sync(): Promise<void>;
}

/**
 * Opens a disk for changes. Only what differs is written, so holes stay holes and a second time changes nothing.
 *
 * @throws {DiskImageError} `DISK_NOT_FOUND`, `DISK_WRONG_TYPE`, `DISK_IO`, and `DISK_UNSUPPORTED` for qcow2.
 */
export async function openInPlace(path: string): Promise<InPlaceFile> {
  const source = await fileSource(path);
  try {
    if (isQcow2(await source.read(0, Math.min(4, source.sizeBytes)))) {
      throw new DiskImageError("DISK_UNSUPPORTED", `expected a raw disk in ${path}, got a qcow2 image`, {
        path,
        hint: "qemu-img convert makes a raw disk of it",
      });
    }
    const handle = await open(path, constants.O_RDWR).catch((error: unknown) => {
      throw ioError(error, "write", path);
    });
    const guarded = async <T>(action: () => Promise<T>): Promise<T> => {
      try {
        return await action();
      } catch (error) {
        throw ioError(error, "write", path);
      }
    };
    const put = async (offset: number, bytes: Uint8Array): Promise<void> => {
      for (let done = 0; done < bytes.byteLength; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, offset + done);
        done += bytesWritten;
      }
    };
    const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
      const present = await source.read(offset, bytes.byteLength);
      await guarded(async () => {
        for (const { start, end } of differences(present, bytes)) await put(offset + start, bytes.subarray(start, end));
      });
    };
    return {
      source,
      write,
      async clear(offset, length, signal) {
        const zeros = new Uint8Array(Math.min(PIECE, length));
        for (let done = 0; done < length; done += PIECE) {
          signal?.throwIfAborted();
          await write(offset + done, zeros.subarray(0, Math.min(PIECE, length - done)));
        }
      },
      sync: () => guarded(() => handle.sync()),
      async [Symbol.asyncDispose]() {
        await handle.close();
        await source.close();
      },
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Runs of units that are not equal. */
function* differences(present: Uint8Array, wanted: Uint8Array): Generator<{ start: number; end: number }> {
  let start: number | undefined;
  for (let at = 0; at < wanted.byteLength; at += UNIT) {
    const end = Math.min(wanted.byteLength, at + UNIT);
    const isEqual = Buffer.compare(present.subarray(at, end), wanted.subarray(at, end)) === 0;
    if (isEqual && start !== undefined) {
      yield { start, end: at };
      start = undefined;
    } else if (!isEqual) start ??= at;
  }
  if (start !== undefined) yield { start, end: wanted.byteLength };
}
