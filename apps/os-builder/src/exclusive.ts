import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { OsBuilderError } from "./errors.ts";

/** Exit code with which flock says that somebody else holds the lock. */
const HELD = 75;

/**
 * Runs something that nothing else may run beside in this project. The kernel owns the lock: it ends with the process
 * that holds it, however that ends.
 *
 * @param stateDirectory - The project's directory of state, made when it is missing.
 * @param run - What to run.
 * @throws {OsBuilderError} `OS_BUSY`, `OS_MISSING_TOOLS`.
 */
export async function exclusively<T>(stateDirectory: string, run: () => Promise<T>): Promise<T> {
  await mkdir(stateDirectory, { recursive: true });
  const path = join(stateDirectory, "lock");
  // A lock belongs to the open file, not to the process that asked for it: it stays here when flock has ended, and goes
  // when the file is closed. Programs that are started meanwhile don't inherit the file.
  await using file = await open(path, "a");
  const exitCode = await lockOpenFile(file.fd);
  if (exitCode === HELD) {
    throw new OsBuilderError("OS_BUSY", `expected to be alone in ${stateDirectory}, got another leveret-os at work`, {
      path,
      hint: "wait until it has ended; nothing was changed",
    });
  }
  if (exitCode !== 0) throw new Error(`bug: flock ended with ${exitCode}`);
  return await run();
}

// Node itself has no way to lock a file.
async function lockOpenFile(fd: number): Promise<number> {
  const argv = ["--nonblock", "--conflict-exit-code", `${HELD}`, "3"];
  try {
    const [exitCode] = await once(spawn("flock", argv, { stdio: ["ignore", "ignore", "ignore", fd] }), "close");
    return Number(exitCode);
  } catch (cause) {
    throw new OsBuilderError("OS_MISSING_TOOLS", "expected flock on the PATH, found none", {
      cause,
      hint: "apt-get install util-linux",
    });
  }
}
