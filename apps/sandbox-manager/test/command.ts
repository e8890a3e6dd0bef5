import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

/** The built command. */
export const BIN: string = fileURLToPath(new URL("../bin/leveret-sandbox.js", import.meta.url));
/** A guest whose packages the tests of the OS builder have downloaded and installed already. */
const GUEST = fileURLToPath(new URL("../../../examples/particle/", import.meta.url));

/** A directory with the description of a guest, in `guest`, and an environment whose sandboxes are in it. */
export async function makeRoot(): Promise<{ readonly root: string; readonly env: NodeJS.ProcessEnv }> {
  const root = await mkdtemp(join(tmpdir(), "sandbox-"));
  for (const name of ["os.config.ts", "os.lock.json", "tree"]) {
    await cp(join(GUEST, name), join(root, "guest", name), { recursive: true });
  }
  await mkdir(join(root, "tmp"));
  const [XDG_STATE_HOME, XDG_RUNTIME_DIR, TMPDIR] = ["state", "run", "tmp"].map((name) => join(root, name));
  return { root, env: { ...process.env, XDG_STATE_HOME, XDG_RUNTIME_DIR, TMPDIR } };
}

/** How the command ended. */
export interface Run {
  /** absent when a signal ended it */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the command. */
export function runCommand(
  argv: readonly string[],
  options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv },
): { readonly pid: number; readonly end: Promise<Run> } {
  const child = spawn(process.execPath, [BIN, ...argv], { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const end = (async () => {
    const output = Promise.all([text(child.stdout), text(child.stderr)]);
    const [exitCode] = (await once(child, "close")) as [number | null];
    const [stdout, stderr] = await output;
    return { exitCode, stdout, stderr };
  })();
  return { pid: child.pid ?? 0, end };
}
