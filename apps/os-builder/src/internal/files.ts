import { randomBytes } from "node:crypto";
import { link, rename, rm, writeFile } from "node:fs/promises";
import { OsBuilderError } from "../errors.ts";

/** What the kernel says when a file may not grow: disk, quota or limit of the process. */
const FULL: readonly unknown[] = ["ENOSPC", "EDQUOT", "EFBIG"];

/**
 * Writes a file, in place of one that may be there.
 *
 * @throws {OsBuilderError} `OS_DISK_FULL`. After a failure nothing is left, and what was there before is untouched.
 */
export async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  await writeBeside(path, content, (beside) => rename(beside, path));
}

/**
 * Writes a file unless there is something already.
 *
 * @returns Whether it was written.
 * @throws {OsBuilderError} As {@link replaceFile}.
 */
export async function createFile(path: string, content: string): Promise<boolean> {
  return writeBeside(path, content, async (beside) => {
    try {
      await link(beside, path);
      return true;
    } catch (error) {
      if (codeOf(error) === "EEXIST") return false;
      throw error;
    }
  });
}

// A file gets its name when it is complete and on disk. Beside it has another name each time, so that two processes
// don't write into each other's.
async function writeBeside<T>(
  path: string,
  content: string | Uint8Array,
  put: (beside: string) => Promise<T>,
): Promise<T> {
  const beside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.partial`;
  try {
    await writeFile(beside, content, { flag: "wx", flush: true });
    return await put(beside);
  } catch (cause) {
    if (!FULL.includes(codeOf(cause))) throw cause;
    throw new OsBuilderError("OS_DISK_FULL", `expected room for ${path}, got: ${(cause as Error).message}`, {
      cause,
      path,
      hint: "free some space on that disk",
    });
  } finally {
    await rm(beside, { force: true });
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
