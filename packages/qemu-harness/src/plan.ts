import type { Duplex } from "node:stream";
import { type Accelerator, type AcceleratorKind, chooseAccelerator } from "./accelerator.ts";
import { buildArgv, commandLine, type MachineFds } from "./argv.ts";
import { findFirmware } from "./firmware.ts";
import { type MachineDescription, type ResolvedMachine, resolveMachine } from "./machine.ts";
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
    boot.type === "kernel"
      ? undefined
      : (boot.firmware ?? (await findFirmware({ secureBoot: boot.secureBoot, qemuPath: qemu.path, env })));
  const accelerator = await chooseAccelerator(options.accelerator ?? "auto", { qemu, env, signal: options.signal });
  const fds = assignFds(machine);
  const argv = buildArgv(machine, { accelerator: accelerator.kind, qemuVersion: qemu.version, firmware, fds });
  return { machine, qemu, accelerator, argv, commandLine: commandLine(qemu.path, argv), fds };
}

function assignFds(machine: ResolvedMachine): MachineFds {
  let next = FIRST_FD;
  return {
    qmp: next++,
    consoles: machine.consoles.map(() => next++),
    tpm: machine.tpm === undefined ? undefined : next++,
    credentials: Object.keys(machine.credentials).map(() => next++),
  };
}

/** What stands behind the descriptors of a plan, in the order of their numbers. */
export function inheritedFds(
  fds: MachineFds,
  tpm: Duplex | undefined,
  credentials: readonly number[],
): ("pipe" | number | Duplex)[] {
  return ["pipe", ...fds.consoles.map(() => "pipe" as const), ...(tpm === undefined ? [] : [tpm]), ...credentials];
}
