import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { open, realpath } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { ask, isAlive, type SandboxProcess, start as startProcess } from "./control/connection.ts";
import { SandboxError, type SandboxErrorCode } from "./errors.ts";
import { guestImage, type ImageOptions } from "./image.ts";
import { type Lease, takeLease } from "./lease.ts";
import { nameOf, numberOf } from "./names.ts";
import { type Environment, openPlaces, type Places } from "./places.ts";
import { readStates, type SandboxState } from "./state.ts";
import { progressSchema, type SupervisorConfig } from "./supervisor/config.ts";

const SUPERVISOR = fileURLToPath(new URL("../dist/supervisor.js", import.meta.url));
/** Where the project is inside. */
export const WORKSPACE = "/workspace";
const DEFAULT_MEMORY_MIB = 1024;

/** How a sandbox is started. */
export interface SandboxStartOptions {
  /** the project, default the working directory */
  readonly directory?: string | undefined;
  /** `vm-3`; default the first that is free */
  readonly name?: string | undefined;
  /** a sandbox more, although the project has one */
  readonly another?: boolean | undefined;
  /** directory with the `os.config.ts` of another guest, and its lock; default what comes with this package */
  readonly image?: string | undefined;
  /** default 1024 */
  readonly memoryMiB?: number | undefined;
  /** default 2 */
  readonly cpus?: number | undefined;
  /** default `process.env` */
  readonly env?: Environment | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ImageOptions["onProgress"];
}

/** How a program is run in a sandbox. */
export interface SandboxExecOptions {
  /** default `/workspace` */
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly terminal?: { readonly rows: number; readonly columns: number } | undefined;
}

/** A program that has run to its end. */
export interface SandboxResult {
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** A sandbox that runs, in whatever process it was started. */
export class Sandbox implements AsyncDisposable {
  readonly state: SandboxState;
  readonly #socket: string;

  /** Use {@link startSandbox} or {@link findSandbox}. */
  constructor(state: SandboxState, socket: string) {
    this.state = state;
    this.#socket = socket;
  }

  /** `vm-1` */
  get name(): string {
    return this.state.name;
  }

  /** The host's address that the sandbox's ports appear on: `127.0.1.1`. */
  get address(): string {
    return this.state.address;
  }

  /** Where something that listens on a port inside is reached from the host. */
  url(port: number): string {
    return `http://${this.address}:${port}`;
  }

  /**
   * Starts a program.
   *
   * @param argv - Program and arguments; no shell sees them.
   * @throws {SandboxError} `SANDBOX_ENDED`. {QemuError} `QEMU_AGENT_REFUSED` for a program that cannot be started.
   */
  async spawn(argv: readonly string[], options: SandboxExecOptions = {}): Promise<SandboxProcess> {
    const { cwd = WORKSPACE, env = {}, terminal } = options;
    return startProcess(this.#socket, { kind: "exec", argv: [...argv], cwd, env, terminal });
  }

  /**
   * Runs a program to its end.
   *
   * @throws As {@link Sandbox.spawn}; never because of how the program ends.
   * @example
   * const { exitCode, stdout } = await vm.exec(["node", "--version"]);
   */
  async exec(argv: readonly string[], options: Omit<SandboxExecOptions, "terminal"> = {}): Promise<SandboxResult> {
    const program = await this.spawn(argv, options);
    program.stdin.end();
    const [stdout, stderr, end] = await Promise.all([buffer(program.stdout), buffer(program.stderr), program.exit]);
    return { ...end, stdout: stdout.toString(), stderr: stderr.toString() };
  }

  /** Ends it, and everything that was changed in it outside of the workspace. */
  async stop(): Promise<void> {
    await ask(this.#socket, { kind: "stop" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch((error: unknown) => {
      if (!(error instanceof SandboxError) || error.code !== "SANDBOX_ENDED") throw error;
    });
  }
}

/**
 * Starts a sandbox for a project, or finds the one that it has.
 *
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS`, `SANDBOX_NONE_FREE`, `SANDBOX_START_FAILED`, `SANDBOX_MISSING_TOOLS`,
 *   `SANDBOX_NOT_WRITABLE`. Errors of the libraries below.
 * @example
 * await using vm = await startSandbox({ directory: "." });
 * console.log((await vm.exec(["uname", "-a"])).stdout);
 */
export async function startSandbox(options: SandboxStartOptions = {}): Promise<Sandbox> {
  const { env = process.env, name, signal } = options;
  const wanted = name === undefined ? undefined : numberOf(name);
  const directory = await projectDirectory(options.directory ?? ".");
  const places = await openPlaces(env);
  if (!options.another) {
    const known = (await running(places)).find(
      ({ state }) => state.directory === directory && (wanted === undefined || state.name === nameOf(wanted)),
    );
    if (known !== undefined) return known;
  }
  const description = options.image === undefined ? undefined : resolve(options.image);
  const image = await guestImage(places, { description, env, signal, onProgress: options.onProgress });
  const lease = await takeLease(places, wanted);
  try {
    signal?.throwIfAborted();
    await supervise(
      lease,
      {
        name: lease.name,
        address: lease.address,
        directory,
        stateDirectory: lease.directory,
        socketPath: socketPath(places, lease.name),
        image,
        templates: join(places.cache, "templates"),
        memoryMiB: options.memoryMiB ?? DEFAULT_MEMORY_MIB,
        cpus: options.cpus ?? 2,
      },
      options,
    );
  } finally {
    // The supervisor has it now, or nobody.
    await lease.file.close();
  }
  return findSandbox(lease.name, { env });
}

/**
 * The sandbox of a name, or of a project.
 *
 * @param name - `vm-1` or `1`; the one of `directory` when it is left out.
 * @throws {SandboxError} `SANDBOX_NOT_FOUND`, `SANDBOX_BAD_OPTIONS`.
 */
export async function findSandbox(
  name?: string,
  options: { readonly directory?: string | undefined; readonly env?: Environment | undefined } = {},
): Promise<Sandbox> {
  const found = await running(await openPlaces(options.env ?? process.env));
  if (name !== undefined) {
    const wanted = nameOf(numberOf(name));
    const sandbox = found.find((each) => each.name === wanted);
    if (sandbox !== undefined) return sandbox;
    const names = found.map((each) => each.name).join(", ") || "none";
    throw new SandboxError("SANDBOX_NOT_FOUND", `expected ${wanted} to run, got ${names}`, { sandbox: wanted });
  }
  const directory = await projectDirectory(options.directory ?? ".");
  const sandbox = found.find(({ state }) => state.directory === directory);
  if (sandbox !== undefined) return sandbox;
  throw new SandboxError("SANDBOX_NOT_FOUND", `expected a sandbox of ${directory}, got none`, {
    path: directory,
    hint: "leveret-sandbox start starts one",
  });
}

/** All sandboxes of this user that run, in the order of their numbers. */
export async function listSandboxes(options: { readonly env?: Environment | undefined } = {}): Promise<Sandbox[]> {
  return running(await openPlaces(options.env ?? process.env));
}

async function running(places: Places): Promise<Sandbox[]> {
  const states = await readStates(places);
  const alive = await Promise.all(states.map(({ name }) => isAlive(socketPath(places, name))));
  return states.filter((_, index) => alive[index]).map((state) => new Sandbox(state, socketPath(places, state.name)));
}

function socketPath(places: Places, name: string): string {
  return join(places.sockets, name);
}

async function projectDirectory(path: string): Promise<string> {
  return realpath(resolve(path)).catch((cause: NodeJS.ErrnoException) => {
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a directory, got ${cause.code} for ${path}`, {
      path,
      cause,
    });
  });
}

/** Starts the process that owns the machine, and waits until it says that the machine is ready. */
async function supervise(
  lease: Lease,
  config: SupervisorConfig,
  { env = process.env, signal, onProgress }: SandboxStartOptions,
): Promise<void> {
  await using log = await open(join(lease.directory, "log"), "w", 0o600);
  const child = spawn(process.execPath, [SUPERVISOR], {
    detached: true,
    cwd: "/",
    env: { ...env },
    stdio: ["pipe", log.fd, log.fd, lease.file.fd, "pipe"],
  });
  const abort = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", abort, { once: true });
  try {
    child.stdin?.on("error", () => {});
    child.stdin?.end(JSON.stringify(config));
    await ready(child, (step) => onProgress?.({ step }));
  } catch (error) {
    child.kill("SIGKILL");
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
    child.unref();
  }
}

async function ready(child: ChildProcess, onStep: (step: string) => void): Promise<void> {
  await once(child, "spawn");
  for await (const line of createInterface({ input: child.stdio[4] as Readable })) {
    const progress = progressSchema.parse(JSON.parse(line));
    if ("ready" in progress) return;
    if ("error" in progress) {
      const { code, message, hint } = progress.error;
      throw new SandboxError(code as SandboxErrorCode, message, { hint });
    }
    onStep(progress.step);
  }
  throw new SandboxError("SANDBOX_START_FAILED", "expected the supervisor to start a machine, it ended without a word");
}
