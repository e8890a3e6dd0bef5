import { constants, createReadStream, fstatSync, open } from "node:fs";
import { Socket } from "node:net";
import { addAbortSignal, type Readable } from "node:stream";
import { isatty, ReadStream } from "node:tty";
import { promisify } from "node:util";
import { ioErrors, type ReportFileError } from "./errors.ts";

/** How {@link ReadWhole} reads. */
export interface ReadWholeOptions {
  /** most content that is taken into memory, in `bytes` */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads a small file to its end. A FIFO, a terminal and an open descriptor (`/dev/fd/3`, `/dev/stdin`; it may be a
 * socket) are as good as a file, and waiting for them ends with the signal.
 */
export type ReadWhole = (path: string, options: ReadWholeOptions) => Promise<Uint8Array>;

/**
 * Opens what is read once, from its start to its end: a file, a FIFO, a terminal or an open descriptor. Waiting for it
 * ends with the signal; failures while it is read are the system's own.
 */
export type OpenStream = (path: string, signal?: AbortSignal) => Promise<Readable>;

/** Makes the opening of streams for one package. */
export function streamFiles(report: ReportFileError): OpenStream {
  const ioError = ioErrors(report);
  return async (path, signal) => {
    try {
      signal?.throwIfAborted();
      const stream = await openStream(path, report);
      return signal === undefined ? stream : addAbortSignal(signal, stream);
    } catch (error) {
      throw ioError(error, "open", path);
    }
  };
}

/** Makes the reading of small files for one package. */
export function wholeFiles(report: ReportFileError): ReadWhole {
  const ioError = ioErrors(report);
  const open = streamFiles(report);
  return async (path, { maxBytes, signal }) => {
    try {
      const stream = await open(path, signal);
      const pieces: Buffer[] = [];
      let size = 0;
      // Leaving the loop closes the stream.
      for await (const piece of stream as AsyncIterable<Buffer>) {
        size += piece.byteLength;
        if (size > maxBytes) {
          throw report("too-large", `expected at most ${maxBytes} bytes in ${path}, got more`, { path });
        }
        pieces.push(piece);
      }
      return new Uint8Array(Buffer.concat(pieces));
    } catch (error) {
      signal?.throwIfAborted();
      throw ioError(error, "read", path);
    }
  };
}

async function openStream(path: string, report: ReportFileError): Promise<Readable> {
  const [, number] = /^\/(?:dev|proc\/self)\/fd\/(\d{1,9})$/.exec(path) ?? [];
  const inherited = path === "/dev/stdin" ? 0 : number === undefined ? undefined : Number(number);
  // Opening a FIFO would otherwise wait for somebody to write to it, and nothing could interrupt that.
  const fd = inherited ?? (await promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK));
  const stat = fstatSync(fd);
  // The pool's threads, which read files, would wait for these without end.
  if (stat.isFIFO() || stat.isSocket()) return new Socket({ fd, readable: true, writable: false });
  if (isatty(fd)) return new ReadStream(fd);
  const stream = createReadStream("", { fd, autoClose: inherited === undefined });
  if (!stat.isDirectory()) return stream;
  stream.destroy();
  throw report("wrong-type", `expected a file at ${path}, got a directory`, { path });
}
