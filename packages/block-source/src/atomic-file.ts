import { randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { ByteSink } from "./block-source.ts";
import { ioErrors, type ReportFileError } from "./errors.ts";
import { handleSink } from "./handle-sink.ts";
import { outputPlace } from "./output-place.ts";

/** A name has at most 255 bytes, and the temporary one is longer than the file's. */
const MAX_STEM = 60;

/** How {@link AtomicFiles.write} writes. */
export interface AtomicWriteOptions {
  /** permission bits of a file that is new, before the umask; 0666 unless given */
  readonly mode?: number | undefined;
}

/** Writing files whole or not at all. */
export interface AtomicFiles {
  /**
   * Writes a file beside its place and moves it there only when `fill` succeeded and everything is on disk; after a
   * failure or an abort nothing is left and what was there before is untouched. Symbolic links are followed. A file that
   * is replaced keeps its mode, and its owner where that may be set; what is no regular file is never replaced.
   */
  write<T>(
    path: string,
    fill: (sink: ByteSink, handle: FileHandle) => Promise<T>,
    options?: AtomicWriteOptions,
  ): Promise<T>;
  /** Refuses an output that is one of the inputs, by whatever name. */
  assertNoInput(output: string, inputs: readonly string[]): Promise<void>;
}

/** Makes the writing of files for one package. */
export function atomicFiles(report: ReportFileError): AtomicFiles {
  const ioError = ioErrors(report);
  return {
    async write(path, fill, { mode = 0o666 } = {}) {
      let beside: string | undefined;
      let handle: FileHandle | undefined;
      try {
        const { path: place, existing } = await outputPlace(path, report);
        const name = `${basename(place).slice(0, MAX_STEM)}.${process.pid}.${randomBytes(4).toString("hex")}.partial`;
        const temporary = join(dirname(place), name);
        handle = await open(temporary, "wx", existing === undefined ? mode : 0o600).catch((error: unknown) => {
          throw ioError(error, "create", path);
        });
        beside = temporary;
        const result = await fill(handleSink(handle), handle);
        if (existing !== undefined) await keepAccess(handle, existing);
        await handle.sync();
        await handle.close();
        handle = undefined;
        await rename(beside, place);
        beside = undefined;
        await syncDirectory(dirname(place));
        return result;
      } catch (error) {
        await handle?.close().catch(() => undefined);
        // What went wrong first is what matters.
        if (beside !== undefined) await rm(beside, { force: true }).catch(() => undefined);
        throw ioError(error, "write", path);
      }
    },

    async assertNoInput(output, inputs) {
      const existing = await identity(output);
      if (existing === undefined) return;
      for (const input of inputs) {
        if ((await identity(input)) !== existing) continue;
        const hint = "write another file, and move it over this one afterwards if that is what you want";
        throw report("same-file", `expected an output that is no input, got ${output} as both`, { path: output, hint });
      }
    },
  };
}

async function keepAccess(handle: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  const own = await handle.stat();
  // Only root may give a file away; for others it becomes theirs, as with any program that replaces files.
  if (own.uid !== uid || own.gid !== gid) await handle.chown(uid, gid).catch(() => undefined);
  await handle.chmod(mode & 0o777);
}

/** What tells one file from all others while it exists. */
async function identity(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

/** What systems say that do not flush directories: network and FUSE file systems, Windows. */
const NO_SYNC: ReadonlySet<unknown> = new Set(["EINVAL", "EPERM", "EACCES", "EISDIR", "EBADF", "ENOTSUP", "ENOSYS"]);

/** Makes a rename durable, where the directory may be read and the file system can do it; the name is there already. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => undefined);
  try {
    await handle?.sync().catch((error: NodeJS.ErrnoException) => {
      if (!NO_SYNC.has(error.code)) throw error;
    });
  } finally {
    await handle?.close();
  }
}
