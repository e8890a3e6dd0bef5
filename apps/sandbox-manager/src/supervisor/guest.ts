import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Machine, openSnapshot, QemuError, type Template } from "@leveret/qemu-harness";
import { CHANGES, UPPER } from "../changes/layer.ts";
import { checkpointPath, nextCheckpoint, readCheckpoint, snapshotIn, writeCheckpoint } from "../checkpoint.ts";
import { SandboxError } from "../errors.ts";
import { Gateway, type Plug } from "../network/gateway.ts";
import { trustScript } from "../network/guest.ts";
import type { NetworkState } from "../network/messages.ts";
import { CONSOLE_FILE, Transcript } from "../transcript.ts";
import { within } from "../within.ts";
import { serveWorkspace, type Workspace, type WorkspaceState } from "../workspace/index.ts";
import type { SupervisorConfig } from "./config.ts";
import { forwardPorts, type Ports } from "./ports.ts";
import { NETWORK, openTemplate, WORKSPACE_PORT } from "./template.ts";

/** What a guest knows of a workspace that is mounted and has never been looked at. */
const UNSEEN: WorkspaceState = { version: 1, nodes: [] };

/** Covers the project with a layer that takes all changes; what is below may not be changed at all. */
const ISOLATE = [
  "/bin/mount",
  ...["-t", "overlay", "-o", `nosuid,nodev,lowerdir=/workspace,upperdir=${UPPER},workdir=${CHANGES}/work`],
  ...["workspace", "/workspace"],
];

/** Limit for each thing that is asked of a guest that begins, in `milliseconds`. */
const ENTER_TIMEOUT_MS = 60_000;

/** A machine, and what this process does for it. */
interface Running {
  readonly machine: Machine;
  readonly workspace: Workspace;
  readonly ports: Ports;
  readonly plug: Plug;
  /** when the host has nothing of its ports any more */
  readonly closed: Promise<void>;
}

/** What a machine goes on with that is a copy of one of before. */
interface Memories {
  /** what it knows of its workspace */
  readonly nodes: WorkspaceState;
  /** connections that it thinks it has */
  readonly connections: NetworkState["connections"];
}

/** The guest of a sandbox, whichever machine it is in. */
export class Guest {
  readonly #config: SupervisorConfig;
  /** when its workspace was last what the project is, in `milliseconds` since 1970 */
  readonly since: number;
  /** its way out */
  readonly gateway: Gateway;
  #running: Running;
  /** what forks are being started from, by name */
  readonly #captures = new Map<string, Template>();
  /** what has to be done one after the other */
  #turn: Promise<unknown> = Promise.resolve();
  #stopping = false;

  private constructor(config: SupervisorConfig, since: number, gateway: Gateway, running: Running) {
    this.#config = config;
    this.since = since;
    this.gateway = gateway;
    this.#running = running;
  }

  /**
   * Starts a sandbox's guest: as a fork of one that has booted before, or as it was at a checkpoint.
   *
   * @param onStep - Told what is being done.
   * @throws {SandboxError} `SANDBOX_START_FAILED`. {QemuError} As `openTemplateCache`, `openSnapshot` and `fork`.
   */
  static async start(config: SupervisorConfig, onStep: (step: string) => void): Promise<Guest> {
    const { origin, sandbox } = config;
    if (origin.kind === "checkpoint") {
      const { since, nodes, network } = await readCheckpoint(origin.path);
      const gateway = new Gateway(network);
      await using template = await openSnapshot(snapshotIn(origin.path), { verify: false });
      const memories = { nodes, connections: network.connections };
      return new Guest(config, since, gateway, await enter(config, template, gateway, memories));
    }
    const gateway = new Gateway(origin.network);
    gateway.grant(origin.secrets);
    await using template = await openTemplate({ ...sandbox, ...origin }, onStep);
    const running = await enter(config, template, gateway);
    return new Guest(config, Date.now(), gateway, running);
  }

  /** The machine that it is in now. */
  get machine(): Machine {
    return this.#running.machine;
  }

  /** The ports of it that are open on the host. */
  get ports(): readonly number[] {
    return this.#running.ports.open();
  }

  /**
   * Keeps what it is, and goes on.
   *
   * @returns Name of the checkpoint.
   */
  async checkpoint(): Promise<string> {
    return this.#next(async () => {
      const id = await nextCheckpoint(this.#config.stateDirectory);
      await (await this.#keep(id, "save")).close();
      return id;
    });
  }

  /** The same for whoever starts forks from it, with a name that nobody is told of; nothing is written to a disk. */
  async capture(): Promise<string> {
    return this.#next(async () => {
      const id = `fork-${randomBytes(6).toString("hex")}`;
      const template = await this.#keep(id, "share");
      this.#captures.set(id, template);
      return id;
    });
  }

  async #keep(id: string, how: "save" | "share"): Promise<Template> {
    const { machine, workspace, plug } = this.#running;
    const { connections } = plug.state();
    const nodes = await workspace.pause();
    const template = await machine.checkpoint().finally(() => workspace.resume());
    try {
      const state = plug.state();
      // Some have come and gone while its memory was copied.
      const network = { ...state, connections: [...connections, ...state.connections] };
      await writeCheckpoint(this.#config.stateDirectory, id, template, { since: this.since, nodes, network }, how);
      return template;
    } catch (error) {
      await template.close();
      throw error;
    }
  }

  /** Becomes what it was at a checkpoint. */
  async rewind(id: string): Promise<void> {
    await this.#next(async () => {
      const path = checkpointPath(this.#config.stateDirectory, id);
      const { nodes, network } = await readCheckpoint(path);
      await using template = await openSnapshot(snapshotIn(path));
      const before = this.#running;
      const memories = { nodes, connections: network.connections };
      // Rules and names are those of now: what was denied since then stays so.
      this.#running = await enter(this.#config, template, this.gateway, memories, before);
    });
  }

  /** Removes a checkpoint, of which nothing is needed any more. */
  async forget(id: string): Promise<void> {
    await this.#next(async () => {
      await this.#captures.get(id)?.close();
      this.#captures.delete(id);
      await rm(checkpointPath(this.#config.stateDirectory, id), { recursive: true, force: true });
    });
  }

  /** Makes it trust the authority of its network, if there is one. @throws {SandboxError} `SANDBOX_START_FAILED`. */
  async trust(): Promise<void> {
    await trust(this.machine, this.gateway);
  }

  /** Waits until the machine has ended without another one in its place. @returns Why. */
  async ended(): Promise<string> {
    for (;;) {
      const { machine } = this.#running;
      const { reason } = await machine.waitForExit();
      // It may be about to be replaced.
      await this.#turn;
      if (machine === this.machine) return reason ?? "killed";
    }
  }

  /** Ends it, when what is being done with it is done; nothing more is. */
  stop(): void {
    this.#stopping = true;
    void this.#turn.then(() => this.machine.close());
  }

  async #next<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      if (!this.#stopping) return run();
      throw new SandboxError("SANDBOX_ENDED", "expected a sandbox that runs, got one that ends");
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

/**
 * Continues a template as a sandbox's machine.
 *
 * @param memories - Of what it is a copy of; none of its own unless given.
 * @param before - The machine that it takes the place of, which is ended.
 */
async function enter(
  { sandbox: { name, address, directory, workspace: kind }, stateDirectory }: SupervisorConfig,
  template: Template,
  gateway: Gateway,
  memories?: Memories,
  before?: Running,
): Promise<Running> {
  const transcript = new Transcript(join(stateDirectory, CONSOLE_FILE));
  const plug = gateway.plug();
  const machine = await template.fork({
    networks: { [NETWORK]: plug.network },
    onConsole: (console, chunk) => console === "serial0" && transcript.add(chunk),
  });
  try {
    const isolated = kind === "isolated";
    const [workspace] = await Promise.all([
      serveWorkspace(machine.port(WORKSPACE_PORT), { directory, state: memories?.nodes ?? UNSEEN, readOnly: isolated }),
      within(ENTER_TIMEOUT_MS, personalise(machine, name), silent),
    ]);
    plug.disown(memories?.connections ?? []);
    await trust(machine, gateway);
    if (isolated && memories === undefined) await isolate(machine);
    // Its ports are the new one's.
    before?.plug.close();
    await before?.machine.close();
    await before?.closed;
    const ports = forwardPorts(machine, address);
    return { machine, workspace, ports, plug, closed: whenEnded(ports) };
  } catch (error) {
    plug.close();
    await machine.close();
    throw error;
  }
}

/** A guest need not answer. */
function silent(): SandboxError {
  const message = `expected the guest to answer within ${ENTER_TIMEOUT_MS} ms, got nothing`;
  return new SandboxError("SANDBOX_START_FAILED", message);
}

async function whenEnded({ ended }: Ports): Promise<void> {
  await ended.catch((error: unknown) => {
    // The end of the machine is the end of its ports, and no news.
    if (error instanceof QemuError) return;
    process.stderr.write(`ports: ${error instanceof Error ? error.message : error}\n`);
  });
}

async function isolate({ agent }: Machine): Promise<void> {
  const { exitCode, stderr } = await agent.exec(ISOLATE, { timeoutMs: ENTER_TIMEOUT_MS });
  if (exitCode === 0) return;
  throw new SandboxError("SANDBOX_START_FAILED", `expected an overlay over the workspace, got: ${stderr.trim()}`);
}

async function trust({ agent }: Machine, { authority }: Gateway): Promise<void> {
  if (authority === undefined) return;
  const argv = ["/bin/sh", "-c", trustScript(authority)];
  const { exitCode, stderr } = await agent.exec(argv, { timeoutMs: ENTER_TIMEOUT_MS });
  if (exitCode === 0) return;
  throw new SandboxError("SANDBOX_START_FAILED", `expected the guest to take a certificate, got: ${stderr.trim()}`);
}

/** Gives a fork what no two machines may have in common; its clock and random numbers are its own already. */
async function personalise({ agent }: Machine, name: string): Promise<void> {
  const hosts = `127.0.0.1 localhost\n127.0.1.1 ${name}\n::1 localhost\n`;
  await Promise.all([
    agent.writeFile("/proc/sys/kernel/hostname", name),
    agent.writeFile("/etc/hostname", `${name}\n`),
    agent.writeFile("/etc/hosts", hosts),
    agent.writeFile("/etc/machine-id", `${randomBytes(16).toString("hex")}\n`),
  ]);
}
