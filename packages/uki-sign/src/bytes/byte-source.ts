import type { FileHandle } from "node:fs/promises";
import { sources } from "@leveret/block-source";
import * as z from "zod";
import { reportFileError } from "../internal/file-errors.ts";

/**
 * Bytes that are at hand at any position without being in memory: a file, or parts of files and memory one after the other.
 * Sources of `@leveret/erofs-meta` and `@leveret/disk-image` with a `readIntoSync` will do.
 */
export interface ByteSource {
  /** length in `bytes` */
  readonly sizeBytes: number;
  /** Fills `target` with the bytes from `offset` on; fails rather than giving fewer. */
  readIntoSync(target: Uint8Array, offset: number): void;
  /** Does so while the caller does something else; sources that have to wait for their bytes offer it. */
  readInto?(target: Uint8Array, offset: number): Promise<void>;
  /** Makes an open file the same, as fast as the kernel can; false where it cannot. Files of this machine offer it. */
  copyTo?(file: FileHandle): Promise<boolean>;
}

/** A {@link ByteSource} that holds a file open. */
export interface FileSource extends ByteSource, AsyncDisposable {
  /** Closes the file; calling it again does nothing. */
  close(): Promise<void>;
}

/** Bytes in memory, or a source of them. */
export type Bytes = Uint8Array | ByteSource;

/** Schema of {@link Bytes}, which are passed on as they are. */
export const bytesOrSourceSchema: z.ZodType<Bytes, Bytes> = z.custom<Bytes>(
  isBytes,
  "expected a Uint8Array or a ByteSource",
);

const files = sources(reportFileError);

/**
 * Opens a file whose bytes are read when they are needed.
 *
 * @param path - A regular file or a block device; opened read-only until `close`.
 * @returns The source. The file must not change while it is in use.
 * @throws {UkiSignError} `UKI_SIGN_FILE` when it cannot be opened or is a directory, FIFO or character device.
 * @example
 * await using image = await fileSource("linux.efi");
 * const { signer } = verifyPe(image, { db: { certificates: [certificate] } });
 */
export async function fileSource(path: string): Promise<FileSource> {
  const source = await files.file(path);
  const { sizeBytes, readIntoSync, readInto, copyTo, close } = source;
  if (readIntoSync === undefined || readInto === undefined) throw new Error("bug: a file that is not read into memory");
  const more = copyTo === undefined ? {} : { copyTo };
  return { sizeBytes, readIntoSync, readInto, ...more, close, [Symbol.asyncDispose]: close };
}

/** Length in bytes. */
export function sizeOf(bytes: Bytes): number {
  return bytes instanceof Uint8Array ? bytes.length : bytes.sizeBytes;
}

/** Some of the bytes in memory: a view where they are in memory already. The caller has checked the range. */
export function readBytes(bytes: Bytes, offset = 0, length: number = sizeOf(bytes) - offset): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes.subarray(offset, offset + length);
  const target = new Uint8Array(length);
  bytes.readIntoSync(target, offset);
  return target;
}

/** A part of the bytes: a view of memory, or a source of its own. The caller has checked the range. */
export function partOf(bytes: Bytes, offset: number, length: number): Bytes {
  if (bytes instanceof Uint8Array) return bytes.subarray(offset, offset + length);
  return {
    sizeBytes: length,
    readIntoSync(target, position) {
      if (position + target.length > length) throw new Error("bug: a read beyond a part");
      bytes.readIntoSync(target, offset + position);
    },
  };
}

/** Bytes read from a source in one go. */
const CHUNK_BYTES = 256 * 1024;

/** Calls `visit` with the bytes from `start` to `end` in order; what it gets is valid during the call only. */
export function eachChunk(bytes: Bytes, start: number, end: number, visit: (chunk: Uint8Array) => void): void {
  if (bytes instanceof Uint8Array) {
    visit(bytes.subarray(start, end));
    return;
  }
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - start));
  for (let offset = start; offset < end; ) {
    const chunk = buffer.subarray(0, Math.min(buffer.length, end - offset));
    bytes.readIntoSync(chunk, offset);
    visit(chunk);
    offset += chunk.length;
  }
}

function isBytes(value: unknown): value is Bytes {
  if (value instanceof Uint8Array) return true;
  return (
    typeof value === "object" &&
    value !== null &&
    "sizeBytes" in value &&
    Number.isSafeInteger(value.sizeBytes) &&
    "readIntoSync" in value &&
    typeof value.readIntoSync === "function"
  );
}
