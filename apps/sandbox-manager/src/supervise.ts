import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { SandboxError, type SandboxErrorCode } from "./errors.ts";
import type { ImageOptions } from "./image.ts";
import type { Lease } from "./lease.ts";
import { type Places, socketPath } from "./places.ts";
import type { SandboxIdentity, SandboxState } from "./state.ts";
import { progressSchema, type SupervisorConfig } from "./supervisor/config.ts";
import { LOG_FILE } from "./transcript.ts";

/** What a process that lives on has of the environment, and QEMU with it: nobody's secrets. */
const PASSED_ON =
  /^(?:HOME|PATH|TMPDIR|TZ|LANG|LD_LIBRARY_PATH|NODE_EXTRA_CA_CERTS|NODE_OPTIONS|(?:LC|XDG|LEVERET)_\w+)$/;
const SUPERVISOR = fileURLToPath(new URL("../dist/supervisor.js", import.meta.url));

type Origin = SupervisorConfig["origin"];

/**
 * Starts the process that owns the machine, and waits until it says that the machine is ready. The lease is that process's
 * then, or nobody's.
 *
 * @param what - What it becomes; where it comes from may be known when the process is there already, which takes a while.
 * @returns What it is then.
 * @throws {SandboxError} `SANDBOX_START_FAILED`, and whatever that process says.
 */
export async function supervise(
  places: Places,
  lease: Lease,
  { origin, ...what }: Omit<SandboxIdentity, "name" | "id" | "address"> & { readonly origin: Origin | Promise<Origin> },
  { env, signal, onProgress }: ImageOptions,
): Promise<SandboxState> {
  const { name, address, directory: stateDirectory } = lease;
  await using _ = lease.file;
  signal?.throwIfAborted();
  await using log = await open(join(lease.directory, LOG_FILE), "w", 0o600);
  const child = spawn(process.execPath, [SUPERVISOR], {
    detached: true,
    cwd: "/",
    env: Object.fromEntries(Object.entries(env ?? {}).filter(([name]) => PASSED_ON.test(name))),
    stdio: ["pipe", log.fd, log.fd, lease.file.fd, "pipe"],
  });
  const abort = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", abort, { once: true });
  try {
    child.stdin?.on("error", () => {});
    const answer = ready(child, (step) => onProgress?.({ step }));
    // Waited for below, if where it comes from is known by then.
    answer.catch(() => {});
    const config: SupervisorConfig = {
      sandbox: { name, id: randomUUID(), address, ...what },
      stateDirectory,
      socketPath: socketPath(places, name),
      origin: await origin,
    };
    child.stdin?.end(JSON.stringify(config));
    return await answer;
  } catch (error) {
    child.kill("SIGKILL");
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
    child.unref();
  }
}

async function ready(child: ChildProcess, onStep: (step: string) => void): Promise<SandboxState> {
  await once(child, "spawn");
  for await (const line of createInterface({ input: child.stdio[4] as Readable })) {
    const progress = progressSchema.parse(JSON.parse(line));
    if ("ready" in progress) return progress.ready;
    if ("error" in progress) {
      const { code, message, hint } = progress.error;
      throw new SandboxError(code as SandboxErrorCode, message, { hint });
    }
    onStep(progress.step);
  }
  throw new SandboxError("SANDBOX_START_FAILED", "expected the supervisor to start a machine, it ended without a word");
}
