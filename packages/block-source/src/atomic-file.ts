import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { ByteSink } from "./block-source.ts";
import { ioErrors, type ReportFileError } from "./errors.ts";

/** Writing files whole or not at all. */
export interface AtomicFiles {
  /**
   * Writes a file beside its place and moves it there only when `fill` succeeded and everything is on disk; after a
   * failure or an abort nothing is left and what was there before is untouched.
   */
  write<T>(path: string, fill: (sink: ByteSink, handle: FileHandle) => Promise<T>): Promise<T>;
}

/** Makes the writing of files for one package. */
export function atomicFiles(report: ReportFileError): AtomicFiles {
  const ioError = ioErrors(report);
  return {
    async write(path, fill) {
      const beside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.partial`;
      let handle: FileHandle | undefined;
      try {
        handle = await open(beside, "wx");
        const result = await fill(handleSink(handle), handle);
        await handle.sync();
        await handle.close();
        handle = undefined;
        await rename(beside, path);
        await syncDirectory(dirname(path));
        return result;
      } catch (error) {
        await handle?.close();
        await rm(beside, { force: true });
        throw ioError(error, "write", path);
      }
    },
  };
}

function handleSink(handle: FileHandle): ByteSink {
  return {
    async write(offset, bytes) {
      let done = 0;
      while (done < bytes.byteLength) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, offset + done);
        done += bytesWritten;
      }
    },
  };
}

/** Makes the rename itself durable. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
