import type { BlockSource, ByteSink } from "./block-source.ts";
import { DiskImageError } from "./errors.ts";
import { isZero } from "./internal/bytes.ts";
import { atomic } from "./internal/files.ts";
import { qcow2Sink } from "./qcow2/write.ts";

/** Zeros are left out in units of this many bytes, the block size of common file systems. */
const HOLE_SIZE = 4096;
const COPY_SIZE = 1024 * 1024;

/**
 * Writes a sparse file of `sizeBytes` beside its place and moves it there only when `fill` succeeded and everything is
 * on disk; after a failure or an abort nothing is left and what was there before is untouched.
 */
export async function writeSparseFile<T>(
  path: string,
  sizeBytes: number,
  fill: (sink: ByteSink) => Promise<T>,
): Promise<T> {
  return atomic.write(path, async (file, handle) => {
    await handle.truncate(sizeBytes);
    return fill(windowSink(sparseSink(file), 0, sizeBytes, "the image"));
  });
}

/** The same for a disk of `sizeBytes` inside of a qcow2 image. */
export async function writeQcow2File<T>(
  path: string,
  sizeBytes: number,
  fill: (sink: ByteSink) => Promise<T>,
): Promise<T> {
  return atomic.write(path, async (file, handle) => {
    const sink = qcow2Sink(file, sizeBytes);
    const result = await fill(windowSink(sink, 0, sizeBytes, "the image"));
    await handle.truncate(await sink.finish());
    return result;
  });
}

/** Restricts a sink to a range of it. */
export function windowSink(sink: ByteSink, offset: number, sizeBytes: number, what: string): ByteSink {
  return {
    async write(position, bytes) {
      const end = position + bytes.byteLength;
      if (!Number.isSafeInteger(position) || position < 0 || end > sizeBytes) {
        throw new DiskImageError(
          "DISK_TOO_SMALL",
          `expected writes inside the ${sizeBytes} bytes of ${what}, got ${position}..${end}`,
          {
            neededBytes: end,
            availableBytes: sizeBytes,
          },
        );
      }
      await sink.write(offset + position, bytes);
    },
  };
}

/** Copies all of a source to the start of a sink; reading the next piece overlaps writing the last. */
export async function copyTo(
  sink: ByteSink,
  source: BlockSource,
  offset: number,
  options: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (count: number) => void } = {},
): Promise<void> {
  const { signal, onBytes } = options;
  let writing: Promise<void> = Promise.resolve();
  try {
    for (let at = 0; at < source.sizeBytes; at += COPY_SIZE) {
      signal?.throwIfAborted();
      const piece = await source.read(at, Math.min(COPY_SIZE, source.sizeBytes - at));
      await writing;
      writing = sink.write(offset + at, piece);
      // A failure is seen at the next await; until then it must not count as unhandled.
      writing.catch(() => undefined);
      onBytes?.(piece.byteLength);
    }
  } finally {
    await writing;
  }
}

/** Skips runs of zeros that were never written over, so that they become holes. */
function sparseSink(file: ByteSink): ByteSink {
  // Below this position something was written, and zeros may have to replace it.
  let written = 0;
  const put = async (offset: number, bytes: Uint8Array): Promise<void> => {
    await file.write(offset, bytes);
    written = Math.max(written, offset + bytes.byteLength);
  };
  return {
    async write(offset, bytes) {
      const fresh = Math.min(bytes.byteLength, Math.max(0, written - offset));
      if (fresh > 0) await put(offset, bytes.subarray(0, fresh));
      for (const run of dataRuns(bytes, fresh, offset))
        await put(offset + run.start, bytes.subarray(run.start, run.end));
    },
  };
}

/** Ranges of `bytes` from `start` on that are not zero, in units aligned in the file. */
function* dataRuns(bytes: Uint8Array, start: number, offset: number): Generator<{ start: number; end: number }> {
  let runStart: number | undefined;
  for (let at = start; at < bytes.byteLength; ) {
    const end = Math.min(bytes.byteLength, at + HOLE_SIZE - ((offset + at) % HOLE_SIZE));
    const isHole = isZero(bytes.subarray(at, end));
    if (isHole && runStart !== undefined) {
      yield { start: runStart, end: at };
      runStart = undefined;
    } else if (!isHole) runStart ??= at;
    at = end;
  }
  if (runStart !== undefined) yield { start: runStart, end: bytes.byteLength };
}
