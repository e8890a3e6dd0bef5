import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { lockOpenFile } from "@leveret/block-source";
import { OsBuilderError } from "./errors.ts";
import { writing } from "./internal/files.ts";

/**
 * Runs something that nothing else may run beside in this project. The kernel owns the lock: it ends with the process
 * that holds it, however that ends.
 *
 * @param stateDirectory - The project's directory of state, made when it is missing.
 * @param run - What to run.
 * @param signal - What calls it off before it has begun; its reason is thrown.
 * @throws {OsBuilderError} `OS_BUSY`, `OS_MISSING_TOOLS`, `OS_NOT_WRITABLE`, `OS_DISK_FULL`.
 */
export async function exclusively<T>(stateDirectory: string, run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const path = join(stateDirectory, "lock");
  await using file = await writing(stateDirectory, async () => {
    await mkdir(stateDirectory, { recursive: true });
    return open(path, "a");
  });
  const locked = await lockOpenFile(file.fd).catch((cause: NodeJS.ErrnoException) => {
    signal?.throwIfAborted();
    const missing = cause.code === "ENOENT";
    throw new OsBuilderError(
      missing ? "OS_MISSING_TOOLS" : "OS_BUSY",
      `expected to lock ${path}, got: ${cause.message}`,
      {
        cause,
        ...(missing && { hint: "apt-get install util-linux, which has flock" }),
      },
    );
  });
  signal?.throwIfAborted();
  if (!locked) {
    throw new OsBuilderError("OS_BUSY", `expected to be alone in ${stateDirectory}, got another leveret-os at work`, {
      path,
      hint: "wait until it has ended; nothing was changed",
    });
  }
  return await run();
}
