import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import tar from "tar-stream";
import xz from "xz-decompress";
import { NixGenError } from "../errors.ts";

const AR_MAGIC = "!<arch>\n";
const AR_HEADER_BYTES = 60;

/** Largest file that {@link readDebFile} takes out of a package, in `bytes`. */
export const DEFAULT_MAX_DEB_FILE_BYTES = 64 * 1024 * 1024;

/** How much of a package's unpacked archive {@link readDebFile} goes through, in `bytes`. */
export const DEFAULT_MAX_DEB_ARCHIVE_BYTES = 256 * 1024 * 1024;

/**
 * Takes one regular file out of a Debian package, without any Debian tool.
 *
 * @param deb - The whole `.deb`; not modified.
 * @param path - Path inside of the package without a leading slash: `usr/bin/busybox`; or several, of which one is there.
 * @returns The file's bytes, a copy.
 * @throws {NixGenError} `NIX_GEN_BAD_DEB` for something that is no package, a package without that file, or one that
 *   unpacks to more than the limits.
 * @see deb(5); ar member headers as in System V
 */
export async function readDebFile(deb: Uint8Array, path: string | readonly string[]): Promise<Uint8Array> {
  const { name, content } = dataMember(deb);
  const paths = [path].flat();
  let found: Uint8Array | undefined;
  const extract = tar.extract();
  extract.on("entry", (header, stream, next) => {
    const wanted = header.type === "file" && paths.includes(header.name.replace(/^\.?\//, ""));
    const chunks: Uint8Array[] = [];
    if (wanted && (header.size ?? 0) > DEFAULT_MAX_DEB_FILE_BYTES) {
      extract.destroy(
        bad(`expected at most ${DEFAULT_MAX_DEB_FILE_BYTES} bytes in ${header.name}, got ${header.size}`),
      );
      return;
    }
    // It ends with the whole archive's error, which the pipeline reports.
    stream.on("error", () => undefined);
    stream.on("data", (chunk) => wanted && chunks.push(chunk as Uint8Array));
    stream.on("end", () => {
      if (wanted) found = new Uint8Array(Buffer.concat(chunks));
      next();
    });
  });
  try {
    await pipeline([...unpacked(name, content), counted(), extract]);
  } catch (cause) {
    throw cause instanceof NixGenError ? cause : bad(`expected an intact archive ${name}`, cause);
  }
  if (found === undefined) throw bad(`expected ${paths.join(" or ")} in the package, found no such file`);
  return found;
}

function dataMember(deb: Uint8Array): { name: string; content: Uint8Array } {
  for (const member of arMembers(deb)) {
    if (["data.tar", "data.tar.gz", "data.tar.xz"].includes(member.name)) return member;
    if (member.name.startsWith("data.tar")) throw bad(`expected data.tar, .gz or .xz, got ${member.name}`);
  }
  throw bad("expected a member data.tar, found none");
}

// Streams, because a small package can unpack to more than there is memory.
function unpacked(name: string, content: Uint8Array): [Readable, ...Transform[]] {
  if (name === "data.tar.xz") {
    const compressed = new Blob([new Uint8Array(content)]).stream() as ReadableStream<Uint8Array>;
    return [Readable.from(new xz.XzReadableStream(compressed), { objectMode: false })];
  }
  const packed = Readable.from([content], { objectMode: false });
  return name === "data.tar.gz" ? [packed, createGunzip()] : [packed];
}

function counted(): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      bytes += chunk.byteLength;
      if (bytes <= DEFAULT_MAX_DEB_ARCHIVE_BYTES) done(null, chunk);
      else done(bad(`expected an archive of at most ${DEFAULT_MAX_DEB_ARCHIVE_BYTES} bytes in the package, got more`));
    },
  });
}

function* arMembers(deb: Uint8Array): Generator<{ name: string; content: Uint8Array }> {
  const text = (from: number, to: number): string => Buffer.from(deb.subarray(from, to)).toString("latin1");
  if (text(0, AR_MAGIC.length) !== AR_MAGIC) throw bad("expected a Debian package (ar archive), got something else");
  let offset = AR_MAGIC.length;
  while (offset < deb.length) {
    if (deb.length - offset < AR_HEADER_BYTES) throw bad(`expected a member header at byte ${offset}, got the end`);
    const name = text(offset, offset + 16)
      .trim()
      .replace(/\/$/, "");
    const digits = text(offset + 48, offset + 58).trim();
    const magic = text(offset + 58, offset + 60);
    const start = offset + AR_HEADER_BYTES;
    const size = Number(digits);
    if (!/^\d+$/.test(digits) || magic !== "`\n" || size > deb.length - start) {
      throw bad(`expected a valid member header at byte ${offset}`);
    }
    yield { name, content: deb.subarray(start, start + size) };
    // Members begin at even offsets.
    offset = start + size + (size % 2);
  }
}

function bad(message: string, cause?: unknown): NixGenError {
  return new NixGenError("NIX_GEN_BAD_DEB", message, { cause });
}
