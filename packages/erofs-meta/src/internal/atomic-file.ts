import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { ByteSink } from "../options.ts";
import { ioError } from "./io-error.ts";

/**
 * Writes a file beside its place and moves it there only when `fill` succeeded and everything is on disk; after a
 * failure nothing is left and what was there before is untouched.
 */
export async function writeAtomically<T>(path: string, fill: (sink: ByteSink) => Promise<T>): Promise<T> {
  const beside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.partial`;
  let handle: FileHandle | undefined;
  try {
    handle = await open(beside, "wx");
    const result = await fill(handleSink(handle));
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
