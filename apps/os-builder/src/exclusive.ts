import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { OsBuilderError } from "./errors.ts";
import { writing } from "./internal/files.ts";

/** Exit code with which flock says that somebody else holds the lock. */
const HELD = 75;

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
  // A lock belongs to the open file, not to the process that asked for it: it stays here when flock has ended, and goes
  // when the file is closed. Programs that are started meanwhile don't inherit the file.
  await using file = await writing(stateDirectory, async () => {
    await mkdir(stateDirectory, { recursive: true });
    return open(path, "a");
  });
  const exitCode = await lockOpenFile(file.fd);
  signal?.throwIfAborted();
  if (exitCode === HELD) {
    throw new OsBuilderError("OS_BUSY", `expected to be alone in ${stateDirectory}, got another leveret-os at work`, {
      path,
      hint: "wait until it has ended; nothing was changed",
    });
  }
  if (exitCode !== 0) throw new OsBuilderError("OS_BUSY", `expected flock to lock ${path}, it ended with ${exitCode}`);
  return await run();
}

// Node itself has no way to lock a file.
async function lockOpenFile(fd: number): Promise<number | string> {
  const argv = ["--nonblock", "--conflict-exit-code", `${HELD}`, "3"];
  try {
    const flock = spawn("flock", argv, { stdio: ["ignore", "ignore", "ignore", fd] });
    const [exitCode, killer] = (await once(flock, "close")) as [number | null, string];
    return exitCode ?? killer;
  } catch (cause) {
    throw new OsBuilderError("OS_MISSING_TOOLS", "expected flock on the PATH, found none", {
      cause,
      hint: "apt-get install util-linux",
    });
  }
}
