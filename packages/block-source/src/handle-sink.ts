import type { FileHandle } from "node:fs/promises";
import type { ByteSink } from "./block-source.ts";

/** A sink over an open file, which writes all that it is given: the system may take less at a time. */
export function handleSink(handle: FileHandle): ByteSink {
  return {
    async write(offset, bytes) {
      for (let done = 0; done < bytes.byteLength; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, offset + done);
        done += bytesWritten;
      }
    },
  };
}
