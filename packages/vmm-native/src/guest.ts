import type { Forward, ForwardRequest } from "@leveret/qemu-harness";
import { assertLoadable } from "./guest-files.ts";
import { bootHypervisor, type Hypervisor } from "./hypervisor.ts";
import { type GuestDescription, type RunOptions, resolveGuest } from "./options.ts";
import type { Vm } from "./vm.ts";

/** Memory that the hypervisor takes for a guest beside its own, in `MiB`, with what rounding takes. */
const REST_MIB = 4;

/** A guest with a hypervisor of its own. */
export interface Guest extends Vm {
  /** copy-pasteable command line of the QEMU that the hypervisor runs in */
  readonly commandLine: string;
  /**
   * Opens a port of the host that leads into the guest, by its network of type `user`.
   *
   * @param request - Port of the guest; of the host a free one unless it is given.
   * @throws {QemuError} `QEMU_FORWARD_FAILED` when the port is taken, `QEMU_BAD_OPTIONS` without such a network.
   */
  readonly forward: (request: ForwardRequest) => Promise<Forward>;
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
  const { name, disks, networks, ...guest } = resolveGuest(description);
  const vmDescription = { ...guest, disks: [...disks.keys()], networks: [...networks.keys()] };
  await assertLoadable(vmDescription);
  const { onConsole, ...onHost } = options;
  const memoryMiB = guest.memoryMiB + REST_MIB;
  const hypervisor = await bootHypervisor({ name, memoryMiB, disks, networks }, onHost);
  try {
    const vm = await hypervisor.createVm(vmDescription);
    if (onConsole !== undefined) vm.console.onOutput(onConsole);
    await vm.run();
    return withHypervisor(vm, hypervisor);
  } catch (error) {
    await hypervisor.close();
    throw error;
  }
}

/** The guest, whose end is that of its hypervisor. */
function withHypervisor(vm: Vm, hypervisor: Hypervisor): Guest {
  const close = (): Promise<void> => hypervisor.close();
  return {
    description: vm.description,
    console: vm.console,
    virtioConsole: vm.virtioConsole,
    forkedInUs: vm.forkedInUs,
    memory: vm.memory,
    run: () => vm.run(),
    pause: () => vm.pause(),
    restart: () => vm.restart(),
    save: (path) => vm.save(path),
    fork: (devices) => vm.fork(devices),
    registers: (processor) => vm.registers(processor),
    inject: (processor, vector) => vm.inject(processor, vector),
    exits: () => vm.exits(),
    waitForStop: (options) => vm.waitForStop(options),
    destroy: () => vm.destroy(),
    commandLine: hypervisor.commandLine,
    forward: (request) => hypervisor.forward(request),
    close,
    [Symbol.asyncDispose]: close,
  };
}
