import { spawn } from "node:child_process";
import { once } from "node:events";

/** Exit code with which flock says that somebody else holds the lock. */
const HELD = 75;

/** How {@link lockOpenFile} locks. */
export interface FileLockOptions {
  /** waits for whoever holds the lock, instead of saying so at once */
  readonly wait?: boolean | undefined;
  /** its `PATH` is where flock is looked for; this process's own unless given */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** ends the waiting */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Locks a file that this process has open, against everybody else who locks it.
 *
 * Node cannot lock files, but a lock belongs to an open file and not to a process: flock(1) locks the one that it
 * inherits and ends, and the lock stays until the last process that has the file open closes it, or ends however it ends.
 *
 * @param descriptor - The open file.
 * @returns Whether it is locked now; false when somebody else holds it.
 * @throws With the code `ENOENT` when there is no flock, with the signal's reason when it was aborted, and when the
 * system has no locks.
 * @see flock(2)
 */
export async function lockOpenFile(
  descriptor: number,
  { wait = false, env = process.env, signal }: FileLockOptions = {},
): Promise<boolean> {
  signal?.throwIfAborted();
  const patience = wait ? [] : ["--nonblock", "--conflict-exit-code", `${HELD}`];
  const flock = spawn("flock", ["--exclusive", ...patience, "3"], {
    stdio: ["ignore", "ignore", "ignore", descriptor],
    env,
  });
  const abort = (): void => void flock.kill("SIGKILL");
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const [exitCode, killer] = (await once(flock, "close")) as [number | null, NodeJS.Signals | null];
    signal?.throwIfAborted();
    if (exitCode === 0 || exitCode === HELD) return exitCode === 0;
    throw new Error(`flock ended with ${exitCode ?? killer}`);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}
