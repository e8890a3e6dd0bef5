import { access } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Forward,
  type ForwardRequest,
  type Machine,
  type MachineDescription,
  type SerialConsole,
  startMachine,
} from "@leveret/qemu-harness";
import { VmmError } from "./errors.ts";
import { assertLoadable } from "./guest-files.ts";
import { type GuestStop, type HypervisorEvent, parseEvent } from "./internal/events.ts";
import { type GuestDescription, type ResolvedGuest, type RunOptions, resolveGuest } from "./options.ts";

/** How long, in `milliseconds`, the hypervisor may take until the guest runs. */
const DEFAULT_START_TIMEOUT_MS = 60_000;
/** Memory for the hypervisor itself, and for the firmware of the machine it runs in, in `MiB`. */
const HYPERVISOR_MEMORY_MIB = 32;

/** The hypervisor as it was built with this package. */
export const HYPERVISOR_FILE = fileURLToPath(new URL("../dist/leveret-hypervisor", import.meta.url));

const CONSOLE = { hypervisor: "hypervisor", guest: "guest0", virtio: "guest0-virtio" } as const;

/** A running guest. */
export interface Guest extends AsyncDisposable {
  /** the description with every default filled in */
  readonly description: ResolvedGuest;
  /** the guest's first serial port */
  readonly console: SerialConsole;
  /** the guest's virtio console, `hvc0` in Linux */
  readonly virtioConsole: SerialConsole;
  /**
   * Opens a port of the host that leads into the guest, by its network of type `user`.
   *
   * @param request - Port of the guest; of the host a free one unless it is given.
   * @throws {QemuError} `QEMU_FORWARD_FAILED` when the port is taken, `QEMU_BAD_OPTIONS` without such a network.
   */
  readonly forward: (request: ForwardRequest) => Promise<Forward>;
  /** copy-pasteable command line of the QEMU that the hypervisor runs in */
  readonly commandLine: string;
  /**
   * Waits for the guest to stop.
   *
   * @param options - Limit, default 120 s, and signal.
   * @returns Why it stopped, and what it exited for.
   * @throws {VmmError} `VMM_PANICKED` when the hypervisor itself ended.
   * @throws {QemuError} `QEMU_CONSOLE_TIMEOUT`, `QEMU_ABORTED`, `QEMU_EXITED` when QEMU ended.
   */
  readonly waitForStop: (options?: { timeoutMs?: number; signal?: AbortSignal }) => Promise<GuestStop>;
  /** Ends the guest, the hypervisor and QEMU. Idempotent. */
  readonly close: () => Promise<void>;
}

/**
 * Starts QEMU, the hypervisor in it, and a guest in that.
 *
 * @param description - The guest.
 * @param options - QEMU, limit and signal.
 * @returns The guest, which runs.
 * @throws {VmmError} `VMM_BAD_OPTIONS`, `VMM_NOT_BUILT` in a checkout without Rust, `VMM_UNREADABLE` when a file cannot be
 *   read, `VMM_BAD_KERNEL` when the kernel cannot be loaded, or not into this memory; `VMM_START_FAILED` with what the
 *   hypervisor expected and got.
 * @throws {QemuError} Whatever QEMU itself goes wrong with.
 * @example
 * await using guest = await startGuest({ kernelPath: "vmlinuz", initrdPath: "initrd", commandLine: "console=ttyS0" });
 * await guest.console.waitFor("login:");
 */
export async function startGuest(description: GuestDescription, options: RunOptions = {}): Promise<Guest> {
  const resolved = resolveGuest(description);
  await assertBuilt();
  await assertLoadable(resolved);
  const { signal, onConsole, timeoutMs = DEFAULT_START_TIMEOUT_MS, ...inMachine } = options;
  // KVM has no AMD-V to pass on unless the host has; emulation always has.
  const machine = await startMachine(describeMachine(resolved), {
    ...inMachine,
    signal,
    timeoutMs,
    accelerator: "tcg",
    onConsole: onConsole && ((name, chunk) => name === CONSOLE.guest && onConsole(chunk)),
  });
  try {
    const { event } = await nextEvent(machine, ["running"], { timeoutMs, signal });
    if (event !== "running") throw new Error(`bug: waited for a running guest, got ${event}`);
  } catch (error) {
    await machine.close();
    throw error;
  }
  return new RunningGuest(resolved, machine);
}

/** Without Rust there is everything but the hypervisor. */
export async function assertBuilt(): Promise<void> {
  await access(HYPERVISOR_FILE).catch((cause: unknown) => {
    throw new VmmError("VMM_NOT_BUILT", "expected the hypervisor beside this package, got none", {
      hint: "install Rust (rustup.rs) and build again",
      path: HYPERVISOR_FILE,
      cause,
    });
  });
}

/** The machine that the hypervisor runs in. */
function describeMachine(guest: ResolvedGuest): MachineDescription {
  const { name, kernelPath, initrdPath, commandLine, memoryMiB, cpus, disks, networks, onReset } = guest;
  const file = (name: string): string => `opt/leveret/guest0/${name}`;
  return {
    name,
    memoryMiB: memoryMiB + HYPERVISOR_MEMORY_MIB,
    boot: { type: "kernel", kernelPath: HYPERVISOR_FILE },
    consoles: [
      { name: CONSOLE.hypervisor, type: "serial" },
      { name: CONSOLE.guest, type: "serial" },
      { name: CONSOLE.virtio, type: "serial" },
    ],
    disks: disks.map((disk) => ({ ...disk, path: resolve(disk.path) })),
    networks,
    rng: false,
    fwCfg: [
      { name: file("kernel"), path: resolve(kernelPath) },
      ...(initrdPath === undefined ? [] : [{ name: file("initrd"), path: resolve(initrdPath) }]),
      ...(commandLine === "" ? [] : [{ name: file("command-line"), value: commandLine }]),
      { name: file("memory-mib"), value: `${memoryMiB}` },
      { name: file("cpus"), value: `${cpus}` },
      ...(onReset === "restart" ? [{ name: file("restarts"), value: "yes" }] : []),
    ],
  };
}

class RunningGuest implements Guest {
  readonly description: ResolvedGuest;
  readonly #machine: Machine;
  #stop: GuestStop | undefined;

  constructor(description: ResolvedGuest, machine: Machine) {
    this.description = description;
    this.#machine = machine;
  }

  get console(): SerialConsole {
    return this.#machine.console(CONSOLE.guest);
  }

  get virtioConsole(): SerialConsole {
    return this.#machine.console(CONSOLE.virtio);
  }

  get commandLine(): string {
    return this.#machine.commandLine;
  }

  async forward(request: ForwardRequest): Promise<Forward> {
    return this.#machine.forward(request);
  }

  async waitForStop(options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<GuestStop> {
    if (this.#stop !== undefined) return this.#stop;
    const event = await nextEvent(this.#machine, ["stopped"], options);
    if (event.event !== "stopped") throw new Error(`bug: waited for a stop, got ${event.event}`);
    const { reason, message, resets, rips, exits } = event;
    this.#stop = { reason, message, resets, rips: rips.map(BigInt), exits };
    return this.#stop;
  }

  async close(): Promise<void> {
    await this.#machine.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Waits for the hypervisor to say one of some things, or that it has failed. */
export async function nextEvent(
  machine: Machine,
  names: readonly HypervisorEvent["event"][],
  options: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined },
): Promise<HypervisorEvent> {
  const log = machine.console(CONSOLE.hypervisor);
  const pattern = new RegExp(`^\\{"event":"(?:${[...names, "failed", "panic"].join("|")})".*\\}\\n`);
  const { text } = await log.waitFor(pattern, options);
  const event = parseEvent(text);
  if (event.event !== "failed" && event.event !== "panic") return event;
  const details = { logTail: log.tail(), commandLine: machine.commandLine };
  if (event.event === "failed") throw new VmmError("VMM_START_FAILED", event.message, details);
  throw new VmmError("VMM_PANICKED", `the hypervisor ended: ${event.message}`, details);
}
