import { realpath, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { buffer } from "node:stream/consumers";
import {
  applyChanges,
  changesOf,
  type Isolated,
  type SandboxApplied,
  type SandboxApplyOptions,
  type SandboxChanges,
} from "./changes/changes.ts";
import { checkpointPath, listCheckpoints, type SandboxCheckpoint } from "./checkpoint.ts";
import { ask, isAlive, type SandboxProcess, start as startProcess } from "./control/connection.ts";
import { SandboxError } from "./errors.ts";
import { type Lease, takeLease } from "./lease.ts";
import { MAX_SANDBOXES, nameOf, numberOf } from "./names.ts";
import { type Environment, openPlaces, type Places, socketPath } from "./places.ts";
import { readStates, type SandboxState } from "./state.ts";
import { supervise } from "./supervise.ts";

/** Where the project is inside. */
export const WORKSPACE = "/workspace";

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
  readonly #places: Places;
  readonly #env: Environment;
  readonly #socket: string;
  readonly #directory: string;

  /** Use {@link startSandbox} or {@link findSandbox}. */
  constructor(state: SandboxState, places: Places, env: Environment) {
    this.state = state;
    this.#places = places;
    this.#env = env;
    this.#socket = socketPath(places, state.name);
    this.#directory = join(places.machines, state.name);
  }

  /** `vm-1` */
  get name(): string {
    return this.state.name;
  }

  /** The host's address that the sandbox's ports appear on: `127.0.1.1`. */
  get address(): string {
    return this.state.address;
  }

  /** The ports that something listens on inside, as far as the host has them, in order. @throws As {@link Sandbox.spawn}. */
  async ports(): Promise<readonly number[]> {
    const reply = await ask(this.#socket, { kind: "ports" });
    return "ports" in reply ? (reply.ports ?? []) : [];
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

  /**
   * What an isolated workspace has that the project has not.
   *
   * @param paths - Files and directories from the project on; all unless given.
   * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` for a workspace that is live, and a path without changes;
   *   `SANDBOX_CHANGES_INVALID`, `SANDBOX_PROJECT_FILE`, `SANDBOX_ENDED`.
   * @example
   * console.log(formatPatch((await vm.diff()).differences));
   */
  async diff(paths: readonly string[] = []): Promise<SandboxChanges> {
    return changesOf(this.#isolated, paths);
  }

  /**
   * Brings changes of an isolated workspace into the project. What the project's own programs would run unasked is held
   * back until it is named: git's hooks, CI's files, scripts of packages.
   *
   * @throws {SandboxError} As {@link Sandbox.diff}, and `SANDBOX_CONFLICT` when the project has changed the same files
   *   since the sandbox was started; nothing is done then.
   * @example
   * const { applied, heldBack } = await vm.apply({ paths: ["src"] });
   */
  async apply(options: SandboxApplyOptions = {}): Promise<SandboxApplied> {
    return applyChanges(this.#isolated, options);
  }

  /**
   * Keeps all of it as it is: memory, programs, files, and what was changed in the workspace. It goes on meanwhile, but for
   * the moment that its memory takes to be copied.
   *
   * @returns Name of the checkpoint: `1`, `2` …
   * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` for a workspace that is live, because nobody can keep that;
   *   `SANDBOX_ENDED`. {QemuError} `QEMU_TEMPLATE_FAILED`, `QEMU_FILE`.
   */
  async checkpoint(): Promise<string> {
    return this.#keep(false);
  }

  /** The checkpoints that it has, the oldest first; they end with it. */
  async checkpoints(): Promise<SandboxCheckpoint[]> {
    return listCheckpoints(this.#directory);
  }

  /**
   * Makes it what it was at a checkpoint. Programs that were started by {@link Sandbox.spawn} since then end.
   *
   * @throws {SandboxError} `SANDBOX_NOT_FOUND`, `SANDBOX_ENDED`; it stays what it is then.
   */
  async rewind(checkpoint: string): Promise<void> {
    const known = await this.checkpoints();
    if (!known.some(({ id }) => id === checkpoint)) {
      const ids = known.map(({ id }) => id).join(", ") || "none";
      const message = `expected a checkpoint of ${this.name}, got ${checkpoint}; there are ${ids}`;
      throw new SandboxError("SANDBOX_NOT_FOUND", message, { sandbox: this.name });
    }
    await ask(this.#socket, { kind: "rewind", id: checkpoint });
  }

  /**
   * Makes copies that go on side by side, each with its own name, address, memory and changes. What they are copies of is
   * captured once.
   *
   * @param count - How many.
   * @param options - Signal that ends those that have not begun to run.
   * @returns What became of each, in order.
   * @throws As {@link Sandbox.checkpoint}.
   * @example
   * const forks = await vm.fork(4);
   */
  async fork(
    count = 1,
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<PromiseSettledResult<Sandbox>[]> {
    if (!Number.isInteger(count) || count < 1 || count > MAX_SANDBOXES) {
      throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected 1 to ${MAX_SANDBOXES} copies, got ${count}`);
    }
    const path = checkpointPath(this.#directory, await this.#keep(true));
    const [places, env] = [this.#places, this.#env];
    const { directory, workspace } = this.state;
    const start = async (lease: Promise<Lease>): Promise<Sandbox> => {
      await supervise(
        places,
        await lease,
        { directory, workspace, origin: { kind: "checkpoint", path } },
        { env, signal },
      );
      return findSandbox((await lease).name, { env });
    };
    try {
      const forks: Promise<Sandbox>[] = [];
      // Names in the order of the results: one after the other.
      for (let index = 0; index < count; index += 1) {
        const lease = takeLease(places);
        forks.push(start(lease));
        await lease.catch(() => {});
      }
      return await Promise.allSettled(forks);
    } finally {
      await rm(path, { recursive: true, force: true });
    }
  }

  async #keep(forFork: boolean): Promise<string> {
    const { name, workspace } = this.state;
    if (workspace !== "isolated") {
      throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a sandbox with an isolated workspace, got ${name}`, {
        sandbox: name,
        hint: "a live one is the project itself, which is not copied; leveret-sandbox start --isolated",
      });
    }
    const reply = await ask(this.#socket, { kind: "checkpoint", forFork });
    if ("checkpoint" in reply && reply.checkpoint !== undefined) return reply.checkpoint;
    throw new SandboxError("SANDBOX_PROTOCOL", "expected the name of a checkpoint, got none", { sandbox: name });
  }

  get #isolated(): Isolated {
    return { state: this.state, directory: this.#directory, spawn: (argv, options) => this.spawn(argv, options) };
  }

  /** Ends it, and everything that was changed in it: outside of the workspace, and in one that is isolated. */
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
 * The sandbox of a name, or of a project.
 *
 * @param name - `vm-1` or `1`; the one of `directory` when it is left out.
 * @throws {SandboxError} `SANDBOX_NOT_FOUND`, `SANDBOX_BAD_OPTIONS`.
 */
export async function findSandbox(
  name?: string,
  options: { readonly directory?: string | undefined; readonly env?: Environment | undefined } = {},
): Promise<Sandbox> {
  const found = await running(options.env ?? process.env);
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
  return running(options.env ?? process.env);
}

async function running(env: Environment): Promise<Sandbox[]> {
  const places = await openPlaces(env);
  const states = await readStates(places);
  const alive = await Promise.all(states.map(({ name }) => isAlive(socketPath(places, name))));
  return states.filter((_, index) => alive[index]).map((state) => new Sandbox(state, places, env));
}

/** A project as sandboxes know it: its directory, without links. */
export async function projectDirectory(path: string): Promise<string> {
  return realpath(resolve(path)).catch((cause: NodeJS.ErrnoException) => {
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a directory, got ${cause.code} for ${path}`, {
      path,
      cause,
    });
  });
}
