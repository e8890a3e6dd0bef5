import { readFileSync } from "node:fs";
import { release } from "node:os";
import { resolve } from "node:path";
import { buildArgv } from "../argv.ts";
import { type FileDisk, isDirect, type ResolvedMachine } from "../description.ts";
import { type Difference, QemuError } from "../errors.ts";
import { AGENT_FILE } from "../initrd.ts";
import type { MachinePlan } from "../plan.ts";
import { findProgram } from "../qemu.ts";
import { digestOf } from "./digest.ts";

/** Everything that has to be the same where a machine continues, by name. */
export type Ingredients = Readonly<Record<string, string>>;

/** Where files are, and what calls reading them off. */
export interface IngredientsOptions {
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Everything that a snapshot of a machine is bound to: QEMU, the accelerator, the host's processor, the description, and
 * the content of every file that it names, wherever that file is.
 *
 * @throws {QemuError} `QEMU_BAD_OPTIONS` for disks of type `device`, `QEMU_FILE`, `QEMU_ABORTED`.
 */
export async function ingredientsOf(plan: MachinePlan, options: IngredientsOptions): Promise<Ingredients> {
  const { machine, qemu, accelerator } = plan;
  const disks = fileDisks(machine);
  const found = new Map<string, string>([
    ["qemu.version", qemu.versionText],
    ["accelerator", accelerator.kind],
    // An emulated machine has the time stamp counter of the host.
    ["host.processor", processorOf(readFileSync("/proc/cpuinfo", "latin1"), accelerator.kind)],
    ...(accelerator.kind === "kvm" ? [["host.kernel", release()] as const] : []),
    ...flatten("machine", descriptionOf(machine)),
    ["arguments", JSON.stringify(argumentsOf(plan))],
  ]);
  for (const disk of disks) if (disk.format === "qcow2") await assertWhole(resolve(options.cwd ?? "", disk.path));
  for (const [name, path] of await filesOf(plan, options.env)) {
    found.set(`${name}.content`, await digestOf(resolve(options.cwd ?? "", path), options));
  }
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** All disks, in order, of a machine none of whose disks ends with the process that serves it. */
function fileDisks({ disks }: ResolvedMachine): readonly FileDisk[] {
  return disks.map((disk, index) => {
    if (disk.type === "file") return disk;
    const message = `expected disks that are files in a machine to keep on a disk, got the device ${disk.name}`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: `disks[${index}].type`, message }] });
  });
}

/** Refuses an image that is not all there is of a disk. */
async function assertWhole(path: string): Promise<void> {
  const { fileSource, qcow2Source } = await import("@leveret/disk-image");
  try {
    await using file = await fileSource(path);
    await qcow2Source(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_FILE", `expected a disk image whose content can be told, got: ${reason}`, {
      path,
      cause,
    });
  }
}

/** What is different, the cause before the effect: other arguments are named only when nothing else explains them. */
export function differencesOf(expected: Ingredients, got: Ingredients): readonly Difference[] {
  const names = [...new Set([...Object.keys(expected), ...Object.keys(got)])].sort();
  const all = names
    .filter((name) => expected[name] !== got[name])
    .map((name) => ({ name, expected: expected[name] ?? "none", got: got[name] ?? "none" }));
  const causes = all.filter(({ name }) => name !== "arguments");
  return causes.length > 0 ? causes : all;
}

/** Names of all files that the machine's state depends on, and their paths. */
async function filesOf(
  { machine, qemu, firmware }: MachinePlan,
  env: IngredientsOptions["env"],
): Promise<readonly (readonly [string, string])[]> {
  const { boot } = machine;
  const files: (readonly [string, string | undefined])[] = [
    ["qemu", qemu.path],
    ["firmware.code", firmware?.codePath],
    ["firmware.variables", boot.type === "uefi" ? (boot.variables?.path ?? firmware?.variablesPath) : undefined],
    ["kernel", isDirect(boot) ? boot.kernelPath : undefined],
    ["initrd", isDirect(boot) ? boot.initrdPath : undefined],
    ["agent", machine.agent ? AGENT_FILE : undefined],
    ["swtpm", machine.tpm === undefined ? undefined : await findProgram("swtpm", env)],
    ...fileDisks(machine).map(({ path }, index) => [`disks[${index}]`, path] as const),
    ...machine.cds.map(({ path }, index) => [`cds[${index}]`, path] as const),
    ...machine.fwCfg.map(({ path }, index) => [`fwCfg[${index}]`, path] as const),
  ];
  return files.flatMap(([name, path]) => (path === undefined ? [] : [[name, path] as const]));
}

/** What the guest sees of a description: where files are, and which ports of the host lead in, it does not. */
function descriptionOf(machine: ResolvedMachine): unknown {
  const { forkable: _, networks, ...rest } = machine;
  return { ...rest, networks: networks.map((each) => ({ ...each, forwards: [] })) };
}

/** Arguments of a fork, without anything of this host in them. */
function argumentsOf({ machine, qemu, accelerator, fds }: MachinePlan): readonly string[] {
  const { boot } = machine;
  const withoutPaths: ResolvedMachine = {
    ...machine,
    boot: isDirect(boot)
      ? { ...boot, kernelPath: "kernel" }
      : boot.type === "uefi" && boot.variables !== undefined
        ? { ...boot, variables: { ...boot.variables, path: "variables" } }
        : boot,
    disks: fileDisks(machine).map((disk) => ({ ...disk, path: "disk" })),
    cds: machine.cds.map((cd) => ({ ...cd, path: "cd" })),
    fwCfg: machine.fwCfg.map((item) => (item.path === undefined ? item : { ...item, path: "item" })),
    networks: machine.networks.map((each) => (each.type === "user" ? { ...each, forwards: [] } : each)),
  };
  return buildArgv(withoutPaths, {
    accelerator: accelerator.kind,
    qemuVersion: qemu.version,
    firmware: { codePath: "code", variablesPath: "variables" },
    fds,
  });
}

/** `boot.fast` and `true`, for every value of a description but paths. */
function flatten(name: string, value: unknown): [string, string][] {
  if (value === undefined || /(^|\.)path$|Path$/.test(name)) return [];
  if (typeof value !== "object" || value === null) return [[name, String(value)]];
  if (Array.isArray(value)) return value.flatMap((each, index) => flatten(`${name}[${index}]`, each));
  return Object.entries(value).flatMap(([key, each]) => flatten(`${name}.${key}`, each));
}

function processorOf(cpuinfo: string, accelerator: string): string {
  const field = (name: string): string => new RegExp(`^${name}\\s*: *(.*)$`, "m").exec(cpuinfo)?.[1] ?? "unknown";
  return accelerator === "kvm" ? `${field("model name")}, ${field("flags")}` : field("model name");
}
