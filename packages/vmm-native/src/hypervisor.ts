import { access } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Forward,
  type ForwardRequest,
  type Machine,
  type SerialConsole,
  startMachine,
} from "@leveret/qemu-harness";
import { ControlConnection } from "./control/connection.ts";
import { REQUEST } from "./control/frames.ts";
import { VmmError } from "./errors.ts";
import { assertFile, assertLoadable } from "./guest-files.ts";
import { type HypervisorEvent, parseEvent } from "./internal/events.ts";
import {
  type HostOptions,
  type HypervisorDescription,
  MAX_VMS,
  type ResolvedHypervisor,
  type ResolvedVm,
  resolveHypervisor,
  resolveVm,
  type VmDescription,
  type VmDevices,
} from "./options.ts";
import { openSavedGuest } from "./saved-guest.ts";
import { ControlledVm, type Vm } from "./vm.ts";

/** How long, in `milliseconds`, the hypervisor may take until it can be asked for guests. */
const DEFAULT_START_TIMEOUT_MS = 60_000;
/** Memory for the hypervisor itself, and for the firmware of the machine it runs in, in `MiB`. */
const HYPERVISOR_MEMORY_MIB = 32;

/** The hypervisor as it was built with this package. */
const HYPERVISOR_FILE = fileURLToPath(new URL("../dist/leveret-hypervisor", import.meta.url));

const CONSOLE = { log: "hypervisor", control: "control" } as const;

/** A hypervisor that runs. */
export interface Hypervisor extends AsyncDisposable {
  /** the description with every default filled in */
  readonly description: ResolvedHypervisor;
  /** what it says about itself, a JSON object a line */
  readonly log: SerialConsole;
  /** copy-pasteable command line of the QEMU that it runs in */
  readonly commandLine: string;
  /**
   * Makes a guest, which does not run yet. There can be {@link MAX_VMS} at a time, with 15 processors together.
   *
   * @param description - The guest.
   * @throws {VmmError} `VMM_BAD_OPTIONS`, `VMM_UNREADABLE`, `VMM_BAD_KERNEL`; `VMM_REFUSED` when there is no room for it, or
   *   another guest has one of its disks or cards.
   */
  readonly createVm: (description: VmDescription) => Promise<Vm>;
  /**
   * Makes a guest that has been saved by {@link Vm.save}, here or in another hypervisor, on a processor with the same features. It
   * does not run yet; for it no time has passed.
   *
   * @param path - The file.
   * @param devices - Disks and networks, as many as it had, of the same size; those of the same numbers unless given.
   * @throws {VmmError} `VMM_UNREADABLE`; `VMM_BAD_STATE` when the file is no saved guest, or not all of one; `VMM_REFUSED` when
   *   there is no room for it, or it cannot go on here.
   */
  readonly restore: (path: string, devices?: VmDevices) => Promise<Vm>;
  /**
   * Opens a port of the host that leads into the guest with the network of type `user`.
   *
   * @param request - Port of the guest; of the host a free one unless it is given.
   * @throws {QemuError} `QEMU_FORWARD_FAILED` when the port is taken, `QEMU_BAD_OPTIONS` without such a network.
   */
  readonly forward: (request: ForwardRequest) => Promise<Forward>;
  /** Ends all guests, the hypervisor and QEMU. Idempotent. */
  readonly close: () => Promise<void>;
}

/**
 * Starts QEMU and the hypervisor in it.
 *
 * @param description - What it has for guests.
 * @param options - QEMU, limit and signal.
 * @returns The hypervisor, which has no guest yet.
 * @throws {VmmError} `VMM_BAD_OPTIONS`, `VMM_NOT_BUILT` in a checkout without Rust, `VMM_UNREADABLE` when a disk cannot be
 *   read, `VMM_START_FAILED` with what the hypervisor expected and got.
 * @throws {QemuError} Whatever QEMU itself goes wrong with.
 * @example
 * await using hv = await createHypervisor({ memoryMiB: 1024 });
 * const vm = await hv.createVm({ kernelPath: "vmlinuz", initrdPath: "initrd", commandLine: "console=ttyS0" });
 * await vm.run();
 * await vm.console.waitFor("login:");
 */
export async function createHypervisor(
  description: HypervisorDescription = {},
  options: HostOptions = {},
): Promise<Hypervisor> {
  return bootHypervisor(description, options);
}

/** As {@link createHypervisor}, for this package. */
export async function bootHypervisor(
  description: HypervisorDescription,
  options: HostOptions,
): Promise<RunningHypervisor> {
  const resolved = resolveHypervisor(description);
  const { name, memoryMiB, disks, networks } = resolved;
  for (const { path } of disks) await assertFile("disk", path);
  await assertBuilt();
  const { signal, timeoutMs = DEFAULT_START_TIMEOUT_MS } = options;
  // KVM has no AMD-V to pass on unless the host has; emulation always has.
  const machine = await startMachine(
    {
      name,
      memoryMiB: memoryMiB + HYPERVISOR_MEMORY_MIB,
      boot: { type: "kernel", kernelPath: HYPERVISOR_FILE },
      consoles: [
        { name: CONSOLE.log, type: "serial" },
        { name: CONSOLE.control, type: "virtio" },
      ],
      disks: disks.map((disk) => ({ ...disk, path: resolve(disk.path) })),
      networks,
      rng: false,
    },
    { ...options, timeoutMs, accelerator: "tcg" },
  );
  try {
    await nextEvent(machine, ["started"], { timeoutMs, signal });
  } catch (error) {
    await machine.close();
    throw error;
  }
  return new RunningHypervisor(resolved, machine);
}

/** Without Rust there is everything but the hypervisor. */
async function assertBuilt(): Promise<void> {
  await access(HYPERVISOR_FILE).catch((cause: unknown) => {
    throw new VmmError("VMM_NOT_BUILT", "expected the hypervisor beside this package, got none", {
      hint: "install Rust (rustup.rs) and build again",
      path: HYPERVISOR_FILE,
      cause,
    });
  });
}

/** A hypervisor in its machine. */
export class RunningHypervisor implements Hypervisor {
  readonly description: ResolvedHypervisor;
  readonly #machine: Machine;
  readonly #connection: ControlConnection;
  /** Guests by their numbers; one that is being made has its number already. */
  readonly #vms = new Map<number, ControlledVm | undefined>();

  constructor(description: ResolvedHypervisor, machine: Machine) {
    this.description = description;
    this.#machine = machine;
    this.#connection = new ControlConnection(machine.port(CONSOLE.control));
    // It says nothing more, but for why it ends.
    nextEvent(machine, [], { timeoutMs: Number.POSITIVE_INFINITY }).catch((error: unknown) => {
      this.#connection.fail(error);
      for (const vm of this.#vms.values()) vm?.fail(error);
    });
  }

  get log(): SerialConsole {
    return this.#machine.console(CONSOLE.log);
  }

  get commandLine(): string {
    return this.#machine.commandLine;
  }

  async createVm(description: VmDescription): Promise<ControlledVm> {
    const resolved = resolveVm(description);
    await assertLoadable(resolved);
    return this.#create(resolved, (vm) => vm.load());
  }

  async restore(path: string, devices: VmDevices = {}): Promise<ControlledVm> {
    await using saved = await openSavedGuest(path);
    const resolved = resolveVm({ ...(saved.description as VmDescription), ...devices });
    return await this.#create(resolved, (vm) => vm.restore(saved));
  }

  /** Makes a guest, and puts into it what it begins with. */
  async #create(resolved: ResolvedVm, fill: (vm: ControlledVm) => Promise<void>): Promise<ControlledVm> {
    const { memoryMiB, cpus } = resolved;
    const parameters = Buffer.alloc(5);
    parameters.writeUInt32LE(memoryMiB);
    parameters.writeUInt8(cpus, 4);
    const vm = await this.#make(resolved, (number, devices) =>
      this.#connection.request(REQUEST.create, number, parameters, devices),
    );
    try {
      await fill(vm);
    } catch (error) {
      await vm.destroy();
      throw error;
    }
    return vm;
  }

  async #fork(parent: ControlledVm, chosen: VmDevices): Promise<ControlledVm> {
    const resolved = resolveVm({ ...parent.description, disks: [], networks: [], ...chosen });
    let forkedInUs: number | undefined;
    const vm = await this.#make(resolved, async (number, devices) => {
      forkedInUs = await parent.forkTo(number, devices);
    });
    vm.forkedInUs = forkedInUs;
    return vm;
  }

  /** Has a guest made, of a number that is free and with devices in the form of requests. */
  async #make(
    resolved: ResolvedVm,
    request: (number: number, devices: Uint8Array) => Promise<unknown>,
  ): Promise<ControlledVm> {
    const number = Array.from({ length: MAX_VMS }, (_, index) => index).find((index) => !this.#vms.has(index));
    if (number === undefined)
      throw new VmmError("VMM_REFUSED", `expected at most ${MAX_VMS} guests at a time, got one more`);
    this.#vms.set(number, undefined);
    const onDestroyed = (): void => void this.#vms.delete(number);
    try {
      await request(number, Uint8Array.of(bits(resolved.disks), bits(resolved.networks)));
    } catch (error) {
      onDestroyed();
      throw error;
    }
    const fork = (vm: ControlledVm, devices: VmDevices): Promise<ControlledVm> => this.#fork(vm, devices);
    const vm = new ControlledVm(this.#connection, number, resolved, {
      commandLine: this.commandLine,
      onDestroyed,
      fork,
    });
    this.#vms.set(number, vm);
    return vm;
  }

  /** Tries a control block for each rule of VMRUN; the log says what came of each. */
  async selfTest(onEvent: (event: HypervisorEvent) => void): Promise<void> {
    await this.#connection.request(REQUEST.selfTest, 0);
    for (;;) {
      const event = await nextEvent(this.#machine, ["checked", "tested"], {});
      if (event.event === "tested") return;
      onEvent(event);
    }
  }

  async forward(request: ForwardRequest): Promise<Forward> {
    return this.#machine.forward(request);
  }

  async close(): Promise<void> {
    await this.#machine.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function bits(numbers: readonly number[]): number {
  return numbers.reduce((all, number) => all | (1 << number), 0);
}

/** Waits for the hypervisor to say one of some things, or that it has failed. */
async function nextEvent(
  machine: Machine,
  names: readonly HypervisorEvent["event"][],
  options: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined },
): Promise<HypervisorEvent> {
  const log = machine.console(CONSOLE.log);
  const pattern = new RegExp(`^\\{"event":"(?:${[...names, "failed", "panic"].join("|")})".*\\}\\n`);
  const { text } = await log.waitFor(pattern, options);
  const event = parseEvent(text);
  if (event.event !== "failed" && event.event !== "panic") return event;
  const details = { logTail: log.tail(), commandLine: machine.commandLine };
  if (event.event === "failed") throw new VmmError("VMM_START_FAILED", event.message, details);
  throw new VmmError("VMM_PANICKED", `the hypervisor ended: ${event.message}`, details);
}
