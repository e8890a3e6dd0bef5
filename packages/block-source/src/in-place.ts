import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { BlockSource, ByteSink } from "./block-source.ts";
import { ioErrors, type ReportFileError } from "./errors.ts";
import { handleSink } from "./handle-sink.ts";
import { sources } from "./sources.ts";

/** What is written is compared with what is there in units of this many bytes, the block size of file systems. */
const UNIT = 4096;

/** A file or a block device that is changed where it lies. */
export interface InPlaceFile extends ByteSink, AsyncDisposable {
  readonly source: BlockSource;
  /** returns when everything written is on the disk */
  sync(): Promise<void>;
}

/** Opening of files to be changed. */
export type OpenInPlace = (path: string) => Promise<InPlaceFile>;

/** Makes the opening of files to be changed for one package. Only what differs is written, so holes stay holes. */
export function inPlaceFiles(report: ReportFileError): OpenInPlace {
  const ioError = ioErrors(report);
  const { file } = sources(report);
  return async (path) => {
    const source = await file(path);
    const guarded = async <T>(action: () => Promise<T>): Promise<T> => {
      try {
        return await action();
      } catch (error) {
        throw ioError(error, "write", path);
      }
    };
    const handle = await guarded(() => open(path, constants.O_RDWR)).catch(async (error: unknown) => {
      await source.close();
      throw error;
    });
    const sink = handleSink(handle);
    return {
      source,
      async write(offset, bytes) {
        const present = await source.read(offset, bytes.byteLength);
        await guarded(async () => {
          for (const { start, end } of differences(present, bytes)) {
            await sink.write(offset + start, bytes.subarray(start, end));
          }
        });
      },
      sync: () => guarded(() => handle.sync()),
      async [Symbol.asyncDispose]() {
        await handle.close();
        await source.close();
      },
    };
  };
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
