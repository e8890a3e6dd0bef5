import { join } from "node:path";
import {
  applyChanges,
  changesOf,
  type Isolated,
  type SandboxApplied,
  type SandboxApplyOptions,
  type SandboxChanges,
} from "./changes/changes.ts";
import { checkpointPath, listCheckpoints, type SandboxCheckpoint } from "./checkpoint.ts";
import {
  ask,
  hold,
  livenessOf,
  type SandboxProcess,
  type Supervisor,
  start as startProcess,
} from "./control/connection.ts";
import type { Reply } from "./control/requests.ts";
import { SandboxError } from "./errors.ts";
import { SandboxFiles } from "./guest/files.ts";
import { type RunOptions, runProgram } from "./guest/run-program.ts";
import { ShellCommand, type ShellWord, shellLine } from "./guest/shell-command.ts";
import { type Lease, takeLease } from "./lease.ts";
import { MAX_SANDBOXES } from "./names.ts";
import { SandboxNetwork } from "./network/client.ts";
import { type Environment, journalPath, type Places, socketPath } from "./places.ts";
import type { SandboxState } from "./state.ts";
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

/** How a program is run to its end. */
export interface SandboxRunOptions extends Omit<SandboxExecOptions, "terminal">, Omit<RunOptions, "input"> {}

interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** What {@link Sandbox.diff} is told. */
export interface SandboxDiffOptions {
  /** files and directories from the project on; all unless given */
  readonly paths?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A program that has run to its end. */
export interface SandboxResult {
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A sandbox that runs, in whatever process it was started. It stands for that one only: when it has ended, everything is
 * `SANDBOX_ENDED`, also when another sandbox has got its name.
 */
export class Sandbox implements AsyncDisposable {
  readonly state: SandboxState;
  readonly #owned: boolean;
  readonly #places: Places;
  readonly #env: Environment;
  readonly #supervisor: Supervisor;
  readonly #directory: string;

  /**
   * Use {@link startSandbox} or {@link findSandbox}.
   *
   * @param owned - Whether it ends when it is disposed of.
   */
  constructor(state: SandboxState, places: Places, { env, owned }: { env: Environment; owned: boolean }) {
    this.state = state;
    this.#places = places;
    this.#env = env;
    this.#owned = owned;
    this.#supervisor = { path: socketPath(places, state.name), id: state.id };
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
    const reply = await ask(this.#supervisor, { kind: "ports" });
    return "ports" in reply ? (reply.ports ?? []) : [];
  }

  /** What it may reach, and what it has tried to. */
  get net(): SandboxNetwork {
    return new SandboxNetwork(this.#supervisor, { env: this.#env, directory: this.state.directory });
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
    return startProcess(this.#supervisor, { kind: "exec", argv: [...argv], cwd, env, terminal });
  }

  /**
   * Runs a program to its end.
   *
   * @throws As {@link Sandbox.spawn}; {SandboxError} `SANDBOX_OUTPUT_LIMIT`; the signal's reason. Never because of how the
   *   program ends.
   * @example
   * const { exitCode, stdout } = await vm.exec(["node", "--version"]);
   */
  async exec(argv: readonly string[], options: SandboxRunOptions = {}): Promise<SandboxResult> {
    const { maxOutputBytes, signal, ...rest } = options;
    signal?.throwIfAborted();
    const ran = await runProgram(await this.spawn(argv, rest), { maxOutputBytes, signal });
    return { ...ran, stdout: ran.stdout.toString(), stderr: ran.stderr.toString() };
  }

  /**
   * Runs a line of `/bin/sh` in the workspace; words that are put into it are quoted. It starts at once.
   *
   * @returns Awaited, what it has said; iterated, the lines of its standard output.
   * @throws {SandboxError} `SANDBOX_COMMAND_FAILED` when it does not end well, `SANDBOX_OUTPUT_LIMIT`, `SANDBOX_ENDED`.
   * @example
   * const { stdout } = await vm.$`git log -1 --format=%s -- ${file}`;
   * for await (const line of vm.$`npm test`) console.log(line);
   */
  $(pieces: TemplateStringsArray, ...words: readonly ShellWord[]): ShellCommand {
    return this.command()(pieces, ...words);
  }

  /**
   * Makes a {@link Sandbox.$} of a directory, an environment, and a signal that ends its commands.
   *
   * @example
   * const $ = vm.command({ cwd: "/workspace/api", signal: AbortSignal.timeout(60_000) });
   * await $`npm test`;
   */
  command({
    signal,
    ...options
  }: Omit<SandboxRunOptions, "maxOutputBytes"> = {}): (
    pieces: TemplateStringsArray,
    ...words: readonly ShellWord[]
  ) => ShellCommand {
    return (pieces, ...words) => {
      const line = shellLine(pieces, words);
      return new ShellCommand(line, this.spawn(["/bin/sh", "-c", line], options), signal);
    };
  }

  /** Its files, outside of the workspace too. */
  get files(): SandboxFiles {
    return new SandboxFiles((argv) => this.spawn(argv));
  }

  /**
   * What an isolated workspace has that the project has not.
   *
   * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` for a workspace that is live, and a path without changes;
   *   `SANDBOX_CHANGES_INVALID`, `SANDBOX_PROJECT_FILE`, `SANDBOX_ENDED`.
   * @example
   * console.log(formatPatch((await vm.diff()).differences));
   */
  async diff({ paths = [], signal }: SandboxDiffOptions = {}): Promise<SandboxChanges> {
    return changesOf(this.#isolated, paths, signal);
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
   * @param options - Signal that ends the waiting; the checkpoint may be made all the same.
   * @returns Name of the checkpoint: `1`, `2` …
   * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` for a workspace that is live, because nobody can keep that;
   *   `SANDBOX_ENDED`. {QemuError} `QEMU_TEMPLATE_FAILED`, `QEMU_FILE`.
   */
  async checkpoint({ signal }: Abortable = {}): Promise<string> {
    this.#expectIsolated();
    return this.#checkpointOf(await ask(this.#supervisor, { kind: "checkpoint" }, signal));
  }

  /** The checkpoints that it has, the oldest first; they end with it. */
  async checkpoints(): Promise<SandboxCheckpoint[]> {
    return listCheckpoints(this.#directory);
  }

  /**
   * Makes it what it was at a checkpoint. Programs that were started by {@link Sandbox.spawn} since then end.
   *
   * @param options - Signal that ends the waiting; it may be done all the same.
   * @throws {SandboxError} `SANDBOX_NOT_FOUND`, `SANDBOX_ENDED`; it stays what it is then.
   */
  async rewind(checkpoint: string, { signal }: Abortable = {}): Promise<void> {
    await this.#expectCheckpoint(checkpoint);
    await ask(this.#supervisor, { kind: "rewind", id: checkpoint }, signal);
  }

  /** Removes a checkpoint; it holds as much as the memory that was in use. @throws As {@link Sandbox.rewind}. */
  async removeCheckpoint(checkpoint: string): Promise<void> {
    await this.#expectCheckpoint(checkpoint);
    await ask(this.#supervisor, { kind: "forget", id: checkpoint });
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
  async fork(count = 1, { signal }: Abortable = {}): Promise<PromiseSettledResult<Sandbox>[]> {
    if (!Number.isInteger(count) || count < 1 || count > MAX_SANDBOXES) {
      throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected 1 to ${MAX_SANDBOXES} copies, got ${count}`);
    }
    this.#expectIsolated();
    const capture = hold(this.#supervisor, { kind: "capture" }, signal);
    const [places, env] = [this.#places, this.#env];
    const { name, directory, project, workspace, memoryMiB, cpus, image } = this.state;
    const origin = capture.then(({ reply }) => {
      const path = checkpointPath(this.#directory, this.#checkpointOf(reply));
      return { kind: "checkpoint", path } as const;
    });
    const what = { directory, project, workspace, memoryMiB, cpus, image, forkOf: name, origin };
    const start = async (lease: Promise<Lease>): Promise<Sandbox> =>
      new Sandbox(await supervise(places, await lease, what, { env, signal }), places, { env, owned: true });
    const forks: Promise<Sandbox>[] = [];
    // Names in the order of the results: one after the other. Their supervisors start while it is captured.
    for (let index = 0; index < count; index += 1) {
      const lease = takeLease(places);
      forks.push(start(lease));
      await lease.catch(() => {});
    }
    const results = await Promise.allSettled(forks);
    // Nobody has got anywhere without it.
    (await capture).release();
    return results;
  }

  #expectIsolated(): void {
    const { name, workspace } = this.state;
    if (workspace === "isolated") return;
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a sandbox with an isolated workspace, got ${name}`, {
      sandbox: name,
      hint: "a live one is the project itself, which is not copied; leveret-sandbox start --isolated",
    });
  }

  #checkpointOf(reply: Reply): string {
    if ("checkpoint" in reply && reply.checkpoint !== undefined) return reply.checkpoint;
    const message = "expected the name of a checkpoint, got none";
    throw new SandboxError("SANDBOX_PROTOCOL", message, { sandbox: this.name });
  }

  async #expectCheckpoint(checkpoint: string): Promise<void> {
    const known = await this.checkpoints();
    if (known.some(({ id }) => id === checkpoint)) return;
    const ids = known.map(({ id }) => id).join(", ") || "none";
    const message = `expected a checkpoint of ${this.name}, got ${checkpoint}; there are ${ids}`;
    throw new SandboxError("SANDBOX_NOT_FOUND", message, { sandbox: this.name });
  }

  get #isolated(): Isolated {
    const spawn = this.spawn.bind(this);
    const journal = journalPath(this.#places, this.state.directory);
    return { state: this.state, directory: this.#directory, journal, spawn };
  }

  /** Ends it, and everything that was changed in it: outside of the workspace, and in one that is isolated. */
  async stop(): Promise<void> {
    // One that is held up by its guest is not ended by being asked.
    if ((await livenessOf(this.#supervisor)) === "does not answer") process.kill(this.state.pid, "SIGKILL");
    else await ask(this.#supervisor, { kind: "stop" });
  }

  /** Ends it, if that is what has started it: one that was found runs on. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#owned) return;
    await this.stop().catch((error: unknown) => {
      if (!(error instanceof SandboxError) || error.code !== "SANDBOX_ENDED") throw error;
    });
  }
}
