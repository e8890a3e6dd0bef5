import { gunzipSync } from "node:zlib";
import tar from "tar-stream";
import xz from "xz-decompress";
import { NixGenError } from "../errors.ts";

const AR_MAGIC = "!<arch>\n";
const AR_HEADER_BYTES = 60;
/** Largest file that {@link readDebFile} takes out of a package, in `bytes`. */
export const DEFAULT_MAX_DEB_FILE_BYTES = 64 * 1024 * 1024;

/**
 * Takes one regular file out of a Debian package, without any Debian tool.
 *
 * @param deb - The whole `.deb`; not modified.
 * @param path - Path inside of the package without a leading slash: `usr/bin/busybox`; or several, of which one is there.
 * @returns The file's bytes, a copy.
 * @throws {NixGenError} `NIX_GEN_BAD_DEB` for something that is no package, or a package without that file.
 * @see deb(5); ar member headers as in System V
 */
export async function readDebFile(deb: Uint8Array, path: string | readonly string[]): Promise<Uint8Array> {
  const data = await readDataArchive(deb);
  const paths = [path].flat();
  return new Promise((resolve, reject) => {
    const extract = tar.extract();
    let found: Uint8Array | undefined;
    extract.on("entry", (header, stream, next) => {
      const wanted = header.type === "file" && paths.includes(header.name.replace(/^\.?\//, ""));
      const chunks: Uint8Array[] = [];
      if (wanted && (header.size ?? 0) > DEFAULT_MAX_DEB_FILE_BYTES) {
        extract.destroy(
          bad(`expected at most ${DEFAULT_MAX_DEB_FILE_BYTES} bytes in ${header.name}, got ${header.size}`),
        );
        return;
      }
      stream.on("data", (chunk) => wanted && chunks.push(chunk as Uint8Array));
      stream.on("end", () => {
        if (wanted) found = new Uint8Array(Buffer.concat(chunks));
        next();
      });
    });
    extract.on("error", (cause) => reject(cause instanceof NixGenError ? cause : bad("expected a tar archive", cause)));
    extract.on("finish", () => {
      if (found === undefined) reject(bad(`expected ${paths.join(" or ")} in the package, found no such file`));
      else resolve(found);
    });
    extract.end(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  });
}

async function readDataArchive(deb: Uint8Array): Promise<Uint8Array> {
  for (const { name, content } of arMembers(deb)) {
    if (name === "data.tar") return content;
    if (name === "data.tar.gz") return decompress(() => gunzipSync(content));
    if (name === "data.tar.xz") {
      const compressed = new Blob([new Uint8Array(content)]).stream() as ReadableStream<Uint8Array>;
      return decompress(
        async () => new Uint8Array(await new Response(new xz.XzReadableStream(compressed)).arrayBuffer()),
      );
    }
    if (name.startsWith("data.tar")) throw bad(`expected data.tar, .gz or .xz, got ${name}`);
  }
  throw bad("expected a member data.tar, found none");
}

async function decompress(run: () => Uint8Array | Promise<Uint8Array>): Promise<Uint8Array> {
  try {
    return await run();
  } catch (cause) {
    throw bad("expected an intact compressed archive", cause);
  }
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
