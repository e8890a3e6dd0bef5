import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { ErofsError } from "../errors.ts";
import { TAR, TAR_BLOCK_SIZE, TAR_COMPRESSIONS } from "../format/tar.ts";
import { isZero } from "../internal/bytes.ts";
import { ByteReader } from "./byte-reader.ts";

/** Reads an archive from its start, decompressed where that is needed and Node can. */
export async function openArchive(archive: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<ByteReader> {
  const reader = new ByteReader(archive);
  try {
    const start = await reader.peek(TAR_BLOCK_SIZE);
    // A name can start with what others start with, so the header is asked first.
    if (isHeader(start) || isZero(start)) return reader;
    const found = TAR_COMPRESSIONS.find(({ magic }) => magic.every((byte, at) => start[at] === byte));
    if (found === undefined) {
      if (start.byteLength < TAR_BLOCK_SIZE) return reader;
      throw new ErofsError("EROFS_BAD_TAR", "expected a tar archive, got data without its header", { offset: 0 });
    }
    if (found.name === "gzip") return new ByteReader(gunzipped(reader));
    throw new ErofsError("EROFS_BAD_TAR", `expected a tar archive or one in gzip, got ${found.name} data`, {
      offset: 0,
      hint: `decompress it first: ${found.program} ARCHIVE | erofs-meta build IMAGE -`,
    });
  } catch (error) {
    await reader.close();
    throw error;
  }
}

/** Sum of every byte of a header, its own field counting as spaces. */
export function headerSum(header: Uint8Array): number {
  const [from, length] = TAR.checksum;
  let sum = 0;
  for (const [at, byte] of header.entries()) sum += at >= from && at < from + length ? 0x20 : byte;
  return sum;
}

function isHeader(block: Uint8Array): boolean {
  const [from, length] = TAR.checksum;
  const digits = Buffer.from(block.subarray(from, from + length)).toString("latin1");
  return block.byteLength === TAR_BLOCK_SIZE && Number.parseInt(digits, 8) === headerSum(block);
}

async function* gunzipped(reader: ByteReader): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  // What fails is thrown where the output is read.
  pipeline(Readable.from(wholeOf(reader), { objectMode: false }), gunzip, () => undefined);
  try {
    yield* gunzip;
  } catch (error) {
    if (!(error instanceof Error && "code" in error && String(error.code).startsWith("Z_"))) throw error;
    throw new ErofsError("EROFS_BAD_TAR", `expected gzip data, got damage: ${error.message}`, { cause: error });
  }
}

async function* wholeOf(reader: ByteReader): AsyncGenerator<Uint8Array> {
  try {
    yield* reader.stream(Number.POSITIVE_INFINITY);
  } finally {
    await reader.close();
  }
}
