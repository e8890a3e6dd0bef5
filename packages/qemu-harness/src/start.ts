import { closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { agentCredentialNames, agentCredentials } from "./agent/credentials.ts";
import type { MachineFds } from "./argv.ts";
import type { BlockDevice } from "./block/device.ts";
import { NodeDisk } from "./block/node-disk.ts";
import { isDirect, isPipe, type MachineDescription, macOf, type ResolvedMachine } from "./description.ts";
import { QemuError } from "./errors.ts";
import { forwardError } from "./forward.ts";
import { initrdWithAgent } from "./initrd.ts";
import { type Child, killChild, spawnChild } from "./internal/child.ts";
import { type ConsolePipes, createConsolePipes } from "./internal/console-pipes.ts";
import {
  closeAll,
  createFiles,
  descriptorsOf,
  forkFiles,
  type MachineFiles,
  reopen,
} from "./internal/machine-files.ts";
import { copyFile, copyMemory } from "./internal/memory-copy.ts";
import { restoreState } from "./internal/migration.ts";
import { withoutPages } from "./internal/migration-stream.ts";
import { type Swtpm, startSwtpm } from "./internal/swtpm.ts";
import { openUnnamedFile } from "./internal/unnamed-file.ts";
import { assertNotAborted, endsWithin, type WaitOptions } from "./internal/wait.ts";
import type { Machine } from "./machine.ts";
import { type Network, Switch } from "./network/network.ts";
import { inheritedFds, type MachinePlan, type PlanOptions, planFork, planMachine } from "./plan.ts";
import { QmpClient } from "./qmp.ts";
import { RunningMachine } from "./running-machine.ts";
import { saveSnapshot, shareSnapshot } from "./snapshot/save.ts";
import type { Forkable } from "./standstill.ts";
import { MachineTemplate, type Template } from "./template.ts";
import { TimelineRecorder } from "./timeline/recorder.ts";

/** How {@link startMachine} starts. */
export interface StartOptions extends PlanOptions, WaitOptions {
  /** directory that relative paths start from, default the process's */
  readonly cwd?: string | undefined;
  /** the private networks that the description names, from {@link createNetwork} */
  readonly networks?: Readonly<Record<string, Network>> | undefined;
  /** the disks of type `device` that the description names, from {@link createBlockDevice} */
  readonly devices?: Readonly<Record<string, BlockDevice>> | undefined;
  /** called with every chunk a console writes, from the first byte on; must not keep or change it */
  readonly onConsole?: ((name: string, chunk: Uint8Array) => void) | undefined;
}

/** How long, in `milliseconds`, QEMU may take until it answers. */
export const DEFAULT_START_TIMEOUT_MS = 30_000;

/** What QEMU calls the memory that is a file. */
const MEMORY_BLOCK = "memory";
const KILL_TIMEOUT_MS = 5000;

/**
 * Starts a machine. Its processes end with it, with `signal`, and with this process, however that ends; nothing of it
 * has a name in the file system.
 *
 * @param description - The machine.
 * @param options - `timeoutMs` bounds the start alone, default {@link DEFAULT_START_TIMEOUT_MS}; `signal` also ends the
 *   running machine.
 * @returns The running machine.
 * @throws {QemuError} All codes of {@link planMachine}, `QEMU_TOOL_NOT_FOUND`, `QEMU_TPM_FAILED`, `QEMU_IMAGE_LOCKED`,
 *   `QEMU_START_FAILED` with what QEMU said, `QEMU_START_TIMEOUT`, `QEMU_ABORTED`.
 * @example
 * await using machine = await startMachine({ boot: { type: "uefi" }, disks: [{ path: "os.raw" }] });
 * await machine.serial.waitFor("login:");
 */
export async function startMachine(description: MachineDescription, options: StartOptions = {}): Promise<Machine> {
  assertNotAborted(options.signal);
  const plan = await planMachine(description, options);
  assertNotAborted(options.signal);
  if (!plan.machine.forkable) return launch(plan, options);
  const files = await createFiles(plan.machine, options.cwd);
  // A start that fails after QEMU has begun reports its end twice.
  const close = once(() => closeAll(descriptorsOf(files)));
  const toTemplate: Forkable["toTemplate"] = (state, firstStream) =>
    templateOf(plan, options, { files, state, firstStream });
  try {
    const copy = copier(plan, options, files, false);
    return await launch(plan, options, { files, forkable: { toTemplate, copy, close } });
  } catch (error) {
    close();
    throw error;
  }
}

/** What a template stands on. */
export interface TemplateGround {
  readonly files: MachineFiles;
  /** state of the devices */
  readonly state: number;
  /** the first number that a stream of the agent may have */
  readonly firstStream: number;
}

/** Makes a template, which owns the descriptors of its ground. */
export function templateOf(plan: MachinePlan, { env, cwd }: StartOptions, ground: TemplateGround): Template {
  const { files, state, firstStream } = ground;
  const source = { plan, cwd, env: env ?? process.env, ...ground };
  return new MachineTemplate({
    machine: plan.machine,
    files,
    state,
    save: (path, options) => saveSnapshot(source, path, options),
    share: (path, options) => shareSnapshot(source, path, options),
    async start(forwards, options) {
      assertNotAborted(options.signal);
      const networks = plan.machine.networks.map((each) => (each.type === "user" ? { ...each, forwards } : each));
      const fork = planFork(plan, { networks });
      const { files: stacked, own } = await forkFiles(files, fork.machine, cwd);
      // Descriptors that are passed on share their position; each fork reads the state from its beginning.
      const ownState = reopen(state);
      const kept = own.length > 0 ? undefined : keptFiles(plan, { env, cwd }, files);
      try {
        const ground = {
          files: stacked,
          state: ownState,
          firstStream,
          ...(kept === undefined ? {} : { forkable: kept }),
        };
        return await launch(fork, { ...options, env, cwd }, ground);
      } catch (error) {
        kept?.close();
        throw error;
      } finally {
        closeAll([...own, ownState]);
      }
    },
  });
}

/** What a fork needs to become a template in turn, also when the one that it comes from is closed. */
function keptFiles(plan: MachinePlan, options: StartOptions, { memory, data, overlays }: MachineFiles): Forkable {
  const files = { memory: reopen(memory), data, overlays };
  return {
    toTemplate: undefined,
    copy: copier(plan, options, files, true),
    close: once(() => closeSync(files.memory)),
  };
}

/** Makes templates out of copies of a machine's files. */
function copier(plan: MachinePlan, options: StartOptions, files: MachineFiles, isPrivate: boolean): Forkable["copy"] {
  return async (pid, state, firstStream, signal) => {
    const copies: number[] = [];
    const copied = async (making: Promise<number>): Promise<number> => {
      const descriptor = await making;
      copies.push(descriptor);
      return descriptor;
    };
    try {
      const memory = await copyMemory({ pid, file: files.memory, data: files.data, isPrivate }, signal);
      copies.push(memory.file);
      const overlays: number[][] = [];
      for (const layers of files.overlays) {
        overlays.push(await Promise.all(layers.map((layer) => copied(copyFile(layer, signal)))));
      }
      const copy = { memory: memory.file, data: memory.data, overlays };
      // What QEMU keeps to itself it takes for a part of the state.
      const lean = isPrivate ? await withoutPages(state, MEMORY_BLOCK, signal) : undefined;
      if (lean !== undefined) closeSync(state);
      return templateOf(plan, options, { files: copy, state: lean ?? state, firstStream });
    } catch (error) {
      closeAll(copies);
      throw error;
    }
  };
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
}

/** What a machine that is forkable or a fork stands on. */
interface Ground {
  readonly files: MachineFiles;
  /** state of the devices that a fork begins with */
  readonly state?: number;
  /** the first number that a stream of the agent may have */
  readonly firstStream?: number;
  readonly forkable?: Forkable;
}

async function launch(plan: MachinePlan, options: StartOptions, ground?: Ground): Promise<Machine> {
  const { machine, qemu, accelerator, argv, fds } = plan;
  const switches = switchesOf(machine, options.networks ?? {});
  const disks = disksOf(machine, options.devices ?? {});
  const env = options.env ?? process.env;
  const { cwd } = options;
  const inputs: number[] = [];
  let swtpm: Swtpm | undefined;
  let child: Child | undefined;
  let screenFile: number | undefined;
  let pipes: ConsolePipes | undefined;
  try {
    const agent = agentCredentialNames(machine).length === 0 ? {} : await agentCredentials();
    for (const [name, value] of Object.entries({ ...machine.credentials, ...agent })) {
      inputs.push(credentialFile(name, value));
    }
    if (machine.tpm !== undefined) {
      const { statePath } = machine.tpm;
      swtpm = await startSwtpm({ statePath: statePath === undefined ? undefined : resolve(cwd ?? "", statePath), env });
    }
    if (fds.initrd !== undefined) inputs.push(openUnnamedFile(await agentInitrd(machine, cwd)));
    screenFile = fds.screen === undefined ? undefined : openUnnamedFile();
    const state = ground?.state === undefined ? [] : [ground.state];
    const screen = screenFile === undefined ? [] : [screenFile];
    const files = [...inputs, ...screen, ...(ground === undefined ? [] : descriptorsOf(ground.files)), ...state];
    const piped = machine.consoles.filter(isPipe).map(({ name }) => name);
    pipes = piped.length === 0 ? undefined : await createConsolePipes(piped, env);
    const inherited = inheritedFds(fds, pipes?.directory, swtpm?.control, files);
    const recorder = new TimelineRecorder();
    child = await spawnChild(qemu.path, argv, { fds: inherited, env, cwd });
    swtpm?.control.destroy();
    const { forkable, firstStream = 0 } = ground ?? {};
    const devices = disks.filter((disk) => disk !== undefined);
    const parts = {
      ...{ machine, accelerator, child, swtpm: swtpm?.child, fds, screenFile, forkable, firstStream, devices, options },
      ...{ pipes: pipes?.streams, recorder },
    };
    for (const [index, found] of switches.entries()) {
      const fd = fds.networks?.[index];
      if (fd !== undefined) found?.attach(machine.name, macOf(machine, index), child.pipe(fd));
    }
    const running = new RunningMachine(parts);
    for (const [index, disk] of disks.entries()) {
      const fd = fds.devices?.[index];
      if (fd !== undefined) disk?.attach(child.pipe(fd), (how) => void running.cutPower(how).catch(() => {}));
    }
    // The machine's own from here on, like everything else that it closes when it ends.
    screenFile = undefined;
    running.attach(await handshake(child, fds, swtpm?.child, options));
    if (ground?.state !== undefined && machine.agent) running.agent.awaken();
    return running;
  } catch (error) {
    swtpm?.control.destroy();
    if (child !== undefined) await killChild(child, KILL_TIMEOUT_MS);
    if (swtpm !== undefined) await killChild(swtpm.child, KILL_TIMEOUT_MS);
    pipes?.destroy();
    throw error;
  } finally {
    pipes?.hide();
    closeAll([...inputs, ...(screenFile === undefined ? [] : [screenFile])]);
  }
}

/** Per network card the network that it is plugged in, where that is a private one. */
function switchesOf(
  machine: ResolvedMachine,
  networks: Readonly<Record<string, Network>>,
): readonly (Switch | undefined)[] {
  return machine.networks.map((each, index) => {
    if (each.type !== "private") return undefined;
    const found = Object.hasOwn(networks, each.name) ? networks[each.name] : undefined;
    if (!(found instanceof Switch)) {
      const message = `expected a network ${each.name} among those that the machine is started with, got none`;
      throw new QemuError("QEMU_BAD_OPTIONS", message, {
        issues: [{ path: `networks[${index}].name`, message }],
        hint: "startMachine(description, { networks: { NAME: createNetwork() } })",
      });
    }
    found.assertFree(macOf(machine, index));
    return found;
  });
}

/** Per disk the device that it is, where it is one. */
function disksOf(
  machine: ResolvedMachine,
  devices: Readonly<Record<string, BlockDevice>>,
): readonly (NodeDisk | undefined)[] {
  const found = machine.disks.map((each, index) => {
    if (each.type !== "device") return undefined;
    const disk = Object.hasOwn(devices, each.name) ? devices[each.name] : undefined;
    if (!(disk instanceof NodeDisk)) {
      const message = `expected a disk ${each.name} among the devices that the machine is started with, got none`;
      throw new QemuError("QEMU_BAD_OPTIONS", message, {
        issues: [{ path: `disks[${index}].name`, message }],
        hint: "startMachine(description, { devices: { NAME: await createBlockDevice(…) } })",
      });
    }
    disk.assertFree(each.name);
    return disk;
  });
  const used = found.filter((disk) => disk !== undefined);
  if (new Set(used).size === used.length) return found;
  const message = "expected each device as one disk, got one as two";
  throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "disks", message }] });
}

async function agentInitrd({ boot }: ResolvedMachine, cwd: string | undefined): Promise<Uint8Array> {
  if (!isDirect(boot) || boot.initrdPath === undefined) return initrdWithAgent();
  const path = resolve(cwd ?? "", boot.initrdPath);
  const initrd = await readFile(path).catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_START_FAILED", `expected an initrd, got: ${reason}`, { path, cause });
  });
  return initrdWithAgent(initrd);
}

/** Writes one credential as the SMBIOS string that systemd reads it from; returns its descriptor. */
function credentialFile(name: string, value: string | Uint8Array): number {
  return openUnnamedFile(`io.systemd.credential.binary:${name}=${Buffer.from(value).toString("base64")}`);
}

async function handshake(
  child: Child,
  fds: MachineFds,
  swtpm: Child | undefined,
  options: StartOptions,
): Promise<QmpClient> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_START_TIMEOUT_MS;
  const { commandLine } = child;
  try {
    const qmp = await QmpClient.connect(child.pipe(fds.qmp), { timeoutMs, signal: options.signal, commandLine });
    const state = fds.files?.state;
    if (state !== undefined) await restoreState(qmp, state, { timeoutMs, signal: options.signal });
    return qmp;
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    if (error.code === "QEMU_QMP_TIMEOUT") {
      throw new QemuError("QEMU_START_TIMEOUT", `expected QEMU to answer within ${timeoutMs} ms, got nothing`, {
        commandLine,
        stderrTail: child.stderrTail(),
        timeoutMs,
        cause: error,
      });
    }
    if (error.code !== "QEMU_QMP_CLOSED") throw error;
    // The connection ends a moment before the process does; its last words are wanted.
    if (!(await endsWithin(child.ended, KILL_TIMEOUT_MS))) await killChild(child, KILL_TIMEOUT_MS);
    throw startError(child, swtpm, error);
  }
}

function startError(child: Child, swtpm: Child | undefined, cause: QemuError): QemuError {
  const stderrTail = child.stderrTail();
  const { commandLine } = child;
  const details = { ...child.status, commandLine, stderrTail, cause };
  if (/Failed to get .* lock/.test(stderrTail)) {
    return new QemuError("QEMU_IMAGE_LOCKED", `expected an image that no other process writes, got: ${stderrTail}`, {
      ...details,
      hint: "another machine has the file open for writing; close it, or give both machines throw-away access",
    });
  }
  if (/host forwarding rule/.test(stderrTail)) {
    return forwardError(`expected ports of the host that are free, got: ${stderrTail}`, details);
  }
  if (swtpm !== undefined && /tpm/i.test(stderrTail)) {
    const message = `expected a working TPM, got: ${[stderrTail, swtpm.stderrTail()].join("\n").trim()}`;
    return new QemuError("QEMU_TPM_FAILED", message, details);
  }
  return new QemuError("QEMU_START_FAILED", `expected QEMU to start, got: ${stderrTail || "no message"}`, details);
}
