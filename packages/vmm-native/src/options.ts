import { machineSchema, type StartOptions } from "@leveret/qemu-harness";
import { z } from "zod";
import { VmmError } from "./errors.ts";

/** Least memory of a guest, in `MiB`. */
export const MIN_GUEST_MEMORY_MIB = 16;
/** Most memory of a guest, in `MiB`: the hypervisor uses memory below 4 GiB, and devices take the upper part of that. */
export const MAX_GUEST_MEMORY_MIB = 2560;

/** Most guests of a hypervisor at a time. */
export const MAX_VMS = 8;

/** Most processors of a guest. */
export const MAX_GUEST_CPUS = 8;

/** Most disks of a guest. */
export const MAX_GUEST_DISKS = 4;

/** Most network cards of a guest. */
export const MAX_GUEST_NETWORKS = 4;

const path = z.string().min(1, "expected a path, got an empty string");

const diskSchema = z.strictObject({
  path,
  format: z.enum(["raw", "qcow2"]).default("raw"),
  /** `throw-away` keeps writes in an unnamed overlay that ends with the guest; `writable` changes the file */
  access: z.enum(["throw-away", "writable", "read-only"]).default("throw-away"),
  /** serial number the guest sees, at most 20 bytes */
  serial: z
    .string()
    .refine((value) => Buffer.byteLength(value) <= 20, "expected at most 20 bytes, the size of a disk's serial number")
    .optional(),
});

/** name of the machine around guests, which the addresses of its network cards are made of */
const name = machineSchema.shape.name.unwrap().default("hypervisor");
const disks = z.array(diskSchema).max(MAX_GUEST_DISKS).default([]);
const networks = machineSchema.shape.networks.unwrap().max(MAX_GUEST_NETWORKS).default([]);

/** Schema of a hypervisor's description; unknown keys are errors. */
export const hypervisorSchema = z.strictObject({
  name,
  /** memory for guests in `MiB`: each takes its own, in units of 2 MiB, and 2 MiB */
  memoryMiB: z
    .number()
    .int()
    .min(MIN_GUEST_MEMORY_MIB)
    .max(MAX_GUEST_MEMORY_MIB + 16)
    .default(512),
  /** virtio disks for guests */
  disks,
  /** virtio network cards for guests: on networks of type `user` or `private` as those of machines are */
  networks,
});

/** Numbers of what the hypervisor has. */
const chosen = (count: number) =>
  z
    .array(
      z
        .number()
        .int()
        .min(0)
        .max(count - 1),
    )
    .max(count)
    .default([]);

/** Schema of a guest of a hypervisor; unknown keys are errors. */
export const vmSchema = z.strictObject({
  /** Linux bzImage, or a flat binary, which is loaded at 1 MiB and entered at its first byte in 64-bit mode */
  kernelPath: path,
  /** initial file system of a Linux kernel */
  initrdPath: path.optional(),
  /** command line of a Linux kernel, without NUL */
  commandLine: z
    .string()
    .refine((value) => !value.includes("\0"), "expected text without NUL bytes, which no command line can carry")
    .default(""),
  /** virtual processors, which take turns on the one that the hypervisor has */
  cpus: z.number().int().min(1).max(MAX_GUEST_CPUS).default(1),
  /** guest's memory in `MiB` */
  memoryMiB: z.number().int().min(MIN_GUEST_MEMORY_MIB).max(MAX_GUEST_MEMORY_MIB).default(256),
  /** what a guest that resets itself does: `stop`, or `restart` with the same kernel, and memory and disks as it has left them */
  onReset: z.enum(["stop", "restart"]).default("stop"),
  /** which of the hypervisor's disks it has, from 0 on; no other guest has them then */
  disks: chosen(MAX_GUEST_DISKS),
  /** which of its network cards, behind the disks on the guest's PCI bus */
  networks: chosen(MAX_GUEST_NETWORKS),
});

/** Schema of a guest with a hypervisor of its own, all of whose disks and cards it has; unknown keys are errors. */
export const guestSchema = z.strictObject({ ...vmSchema.shape, name, disks, networks });

/** A hypervisor as people write it: everything with a default may be left out. */
export type HypervisorDescription = z.input<typeof hypervisorSchema>;

/** A hypervisor's description with every default filled in. */
export type ResolvedHypervisor = z.output<typeof hypervisorSchema>;

/** A guest of a hypervisor as people write it. */
export type VmDescription = z.input<typeof vmSchema>;

/** Which of a hypervisor's disks and networks a guest has. */
export type VmDevices = Pick<VmDescription, "disks" | "networks">;

/** A guest's description with every default filled in. */
export type ResolvedVm = z.output<typeof vmSchema>;

/** A guest with a hypervisor of its own as people write it. */
export type GuestDescription = z.input<typeof guestSchema>;

/**
 * How a machine for the hypervisor starts: which QEMU, on which private networks, with which limit (default 60 s) and signal,
 * which also ends it.
 */
export type HostOptions = Pick<StartOptions, "qemu" | "env" | "networks" | "timeoutMs" | "signal">;

/** How {@link startGuest} starts. */
export interface RunOptions extends HostOptions {
  /** called with every chunk the guest's first serial port writes, from the first byte on; must not keep or change it */
  readonly onConsole?: ((chunk: Uint8Array) => void) | undefined;
}

/** Validates a hypervisor's description; every problem is reported at once. */
export function resolveHypervisor(description: HypervisorDescription): ResolvedHypervisor {
  return resolve(hypervisorSchema, description, "hypervisor");
}

/** Validates a guest's. */
export function resolveVm(description: VmDescription): ResolvedVm {
  return resolve(vmSchema, description, "guest");
}

/** Validates that of a guest with a hypervisor of its own. */
export function resolveGuest(description: GuestDescription): z.output<typeof guestSchema> {
  return resolve(guestSchema, description, "guest");
}

function resolve<T extends z.ZodType>(schema: T, description: unknown, what: string): z.output<T> {
  const result = schema.safeParse(description);
  if (result.success) return result.data;
  throw new VmmError("VMM_BAD_OPTIONS", `expected a valid ${what}, got\n${z.prettifyError(result.error)}`, {
    issues: result.error.issues.map((issue) => ({ path: z.core.toDotPath(issue.path), message: issue.message })),
  });
}
