import { randomBytes } from "node:crypto";
import { link, rename, rm, writeFile } from "node:fs/promises";
import { OsBuilderError } from "../errors.ts";
import { reasonOf } from "./reason.ts";

/** What the kernel says when a file may not grow: disk, quota or limit of the process. */
const FULL: readonly unknown[] = ["ENOSPC", "EDQUOT", "EFBIG"];
/** What it says when something may not be changed at all. */
const DENIED: readonly unknown[] = ["EACCES", "EPERM", "EROFS"];

/**
 * Runs something that writes, and says in this package's words what the disk or its permissions had against it.
 *
 * @param path - What is written, or where.
 * @throws {OsBuilderError} `OS_DISK_FULL`, `OS_NOT_WRITABLE`. Everything else passes through.
 */
export async function writing<T>(path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    const code = codeOf(cause) ?? codeOf(cause instanceof Error ? cause.cause : undefined);
    const message = reasonOf(cause);
    if (FULL.includes(code)) {
      const hint = "free some space on that disk";
      throw new OsBuilderError("OS_DISK_FULL", `expected room for ${path}, got: ${message}`, { cause, path, hint });
    }
    if (DENIED.includes(code)) {
      const hint = "give this user the right to write there, or work in another directory";
      throw new OsBuilderError("OS_NOT_WRITABLE", `expected to write ${path}, got: ${message}`, { cause, path, hint });
    }
    throw cause;
  }
}

/**
 * Writes a file, in place of one that may be there.
 *
 * @throws {OsBuilderError} As {@link writing}. After a failure nothing is left, and what was there before is untouched.
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
  return writing(path, async () => {
    try {
      await writeFile(beside, content, { flag: "wx", flush: true });
      return await put(beside);
    } finally {
      await rm(beside, { force: true });
    }
  });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
