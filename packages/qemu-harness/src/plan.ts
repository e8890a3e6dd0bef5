import type { Duplex } from "node:stream";
import { type Accelerator, type AcceleratorKind, chooseAccelerator } from "./accelerator.ts";
import { agentCredentialNames } from "./agent/credentials.ts";
import { buildArgv, commandLine, type MachineFds } from "./argv.ts";
import {
  isDirect,
  isPipe,
  isThrownAway,
  type MachineDescription,
  type ResolvedMachine,
  resolveMachine,
} from "./description.ts";
import { QemuError } from "./errors.ts";
import { type Firmware, findFirmware } from "./firmware.ts";
import { linuxParameters } from "./linux.ts";
import { findQemu, type Qemu } from "./qemu.ts";

/** What a machine is started with. */
export interface PlanOptions {
  /** QEMU to use, default what {@link findQemu} finds */
  readonly qemu?: Qemu | undefined;
  /** how guest code is run, default `auto`: KVM when a probe saw it work, else TCG */
  readonly accelerator?: AcceleratorKind | "auto" | undefined;
  /** environment of QEMU and of the search for programs, default `process.env` */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** calls the search off */
  readonly signal?: AbortSignal | undefined;
}

/** What would be started. */
export interface MachinePlan {
  /** the description with every default filled in */
  readonly machine: ResolvedMachine;
  readonly qemu: Qemu;
  readonly accelerator: Accelerator;
  /** firmware of a UEFI machine */
  readonly firmware: Firmware | undefined;
  /** QEMU's arguments */
  readonly argv: readonly string[];
  /** copy-pasteable command line; its descriptors are those the harness passes on */
  readonly commandLine: string;
  readonly fds: MachineFds;
}

/** First descriptor that is passed on; the ones before are the standard streams. */
const FIRST_FD = 3;

/**
 * Settles everything about a machine without starting it: checks the description, finds QEMU and firmware, probes the
 * accelerator, builds the arguments.
 *
 * @param description - The machine.
 * @param options - QEMU, accelerator and environment.
 * @returns What {@link startMachine} would start.
 * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_NOT_FOUND`, `QEMU_TOO_OLD`, `QEMU_FIRMWARE_NOT_FOUND`,
 *   `QEMU_ACCELERATOR_UNUSABLE`, `QEMU_ABORTED`.
 * @example
 * console.log((await planMachine({ boot: { type: "uefi" } })).commandLine);
 */
export async function planMachine(description: MachineDescription, options: PlanOptions = {}): Promise<MachinePlan> {
  const machine = resolveMachine(description);
  const env = options.env ?? process.env;
  const qemu = options.qemu ?? (await findQemu({ env }));
  const { boot } = machine;
  const firmware =
    boot.type === "uefi"
      ? (boot.firmware ?? (await findFirmware({ secureBoot: boot.secureBoot, qemuPath: qemu.path, env })))
      : undefined;
  const wanted = acceleratorFor(machine, options.accelerator);
  const accelerator = await chooseAccelerator(wanted, { qemu, env, signal: options.signal });
  return settle({ machine, qemu, accelerator, firmware }, machine.forkable ? { layers: 1 } : undefined);
}

/** Only emulation counts instructions. */
function acceleratorFor({ clock }: ResolvedMachine, wanted: PlanOptions["accelerator"] = "auto"): typeof wanted {
  if (clock.type === "host") return wanted;
  if (wanted !== "kvm") return "tcg";
  const message = "expected emulation for a machine with a virtual clock, got kvm";
  throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "accelerator", message }] });
}

/**
 * Plans a fork.
 *
 * @param parent - What the template was started as.
 * @param changes - What is different in the fork: nothing that the guest sees.
 */
export function planFork(parent: MachinePlan, changes: Pick<ResolvedMachine, "networks">): MachinePlan {
  const machine = { ...parent.machine, ...changes, forkable: false };
  return settle({ ...parent, machine }, { layers: 2, state: true });
}

/** How many overlays a disk has that is thrown away, and whether there is a state to begin with. */
interface FilesPlan {
  readonly layers: number;
  readonly state?: boolean;
}

type Settled = Pick<MachinePlan, "machine" | "qemu" | "accelerator" | "firmware">;

function settle({ machine, qemu, accelerator, firmware }: Settled, files: FilesPlan | undefined): MachinePlan {
  const fds = assignFds(machine, files);
  const parameters = linuxParameters(machine, accelerator.kind);
  const context = { accelerator: accelerator.kind, qemuVersion: qemu.version, firmware, fds, parameters };
  const argv = buildArgv(machine, context);
  return { machine, qemu, accelerator, firmware, argv, commandLine: commandLine(qemu.path, argv), fds };
}

function assignFds(machine: ResolvedMachine, files: FilesPlan | undefined): MachineFds {
  let next = FIRST_FD;
  const layersOf = (disk: ResolvedMachine["disks"][number]): number => (isThrownAway(disk) ? (files?.layers ?? 0) : 0);
  return {
    qmp: next++,
    pipes: machine.consoles.some(isPipe) ? next++ : undefined,
    ports: machine.consoles.map((item) => (isPipe(item) ? undefined : next++)),
    tpm: machine.tpm === undefined ? undefined : next++,
    agent: machine.agent ? next++ : undefined,
    networks: machine.networks.map(({ type }) => (type === "private" ? next++ : undefined)),
    devices: machine.disks.map(({ type }) => (type === "device" ? next++ : undefined)),
    credentials: [...Object.keys(machine.credentials), ...agentCredentialNames(machine)].map(() => next++),
    initrd: machine.agent && isDirect(machine.boot) && files?.state !== true ? next++ : undefined,
    screen: machine.graphics === undefined ? undefined : next++,
    files: files && {
      memory: next++,
      overlays: machine.disks.map((disk) => Array.from({ length: layersOf(disk) }, () => next++)),
      state: files.state === true ? next++ : undefined,
    },
  };
}

/**
 * What stands behind the descriptors of a plan, in the order of their numbers.
 *
 * @param pipes - Directory of the consoles' pipes.
 * @param tpm - Control connection of the TPM's emulator.
 * @param files - Credentials, initrd, screen, memory, overlays and state.
 */
export function inheritedFds(
  fds: MachineFds,
  pipes: number | undefined,
  tpm: Duplex | undefined,
  files: readonly number[],
): ("pipe" | number | Duplex)[] {
  const sockets = (numbers: readonly (number | undefined)[] = []): "pipe"[] =>
    numbers.filter((fd) => fd !== undefined).map(() => "pipe");
  return [
    "pipe",
    ...(pipes === undefined ? [] : [pipes]),
    ...sockets(fds.ports),
    ...(tpm === undefined ? [] : [tpm]),
    ...sockets([fds.agent]),
    ...sockets(fds.networks),
    ...sockets(fds.devices),
    ...files,
  ];
}
