import type { FileHandle } from "node:fs/promises";

/**
 * Random access to bytes: a file, memory, a partition inside a disk image, a remote object. Everything in this package
 * that reads takes one, so an image never has to fit in memory. Any object of this shape will do.
 */
export interface BlockSource {
  /** length in `bytes` */
  readonly sizeBytes: number;
  /**
   * Reads exactly `length` bytes; fails rather than returning fewer. The result may alias the source's own memory, so
   * callers treat it as read-only.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Like `read`, into memory of the caller's; sources that can avoid a copy offer it. */
  readInto?(target: Uint8Array, offset: number): Promise<void>;
  /**
   * Like `readInto`, without a promise, which for a few bytes takes longer than reading them; sources whose bytes are at
   * hand, such as memory and files of this machine, offer it.
   */
  readIntoSync?(target: Uint8Array, offset: number): void;
  /**
   * Makes an open file the same as this source, as fast as the kernel can, which need not move the bytes through this
   * process; files of this machine offer it.
   *
   * @returns False where that cannot be done; the file may be anything then.
   */
  copyTo?(file: FileHandle): Promise<boolean>;
  /** Releases what the source holds; calling it again does nothing. */
  close(): Promise<void>;
}

/** A {@link BlockSource} that `await using` closes. */
export type DisposableBlockSource = BlockSource & AsyncDisposable;

/** Somewhere bytes can be written at any position; unwritten bytes read as zeros. */
export interface ByteSink {
  /** Writes all of `bytes`; the caller may reuse them once the promise resolves. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
}
