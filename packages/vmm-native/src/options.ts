import { machineSchema, type StartOptions } from "@leveret/qemu-harness";
import { z } from "zod";
import { VmmError } from "./errors.ts";

/** Least memory of a guest, in `MiB`. */
export const MIN_GUEST_MEMORY_MIB = 16;
/** Most memory of a guest, in `MiB`: the hypervisor uses memory below 4 GiB, and devices take the upper part of that. */
export const MAX_GUEST_MEMORY_MIB = 2560;

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

/** Schema of a guest's description; unknown keys are errors. */
export const guestSchema = z.strictObject({
  /** name of the machine around the guest, which the addresses of its network cards are made of */
  name: machineSchema.shape.name.unwrap().default("hypervisor"),
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
  /** virtio disks, in the order of the guest's PCI bus */
  disks: z.array(diskSchema).max(MAX_GUEST_DISKS).default([]),
  /** virtio network cards, behind the disks: on networks of type `user` or `private` as those of machines are */
  networks: machineSchema.shape.networks.unwrap().max(MAX_GUEST_NETWORKS).default([]),
});

/** A guest as people write it: everything with a default may be left out. */
export type GuestDescription = z.input<typeof guestSchema>;

/** A guest's description with every default filled in. */
export type ResolvedGuest = z.output<typeof guestSchema>;

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

/** Validates a description; every problem is reported at once. */
export function resolveGuest(description: GuestDescription): ResolvedGuest {
  const result = guestSchema.safeParse(description);
  if (result.success) return result.data;
  throw new VmmError("VMM_BAD_OPTIONS", `expected a valid guest, got\n${z.prettifyError(result.error)}`, {
    issues: result.error.issues.map((issue) => ({ path: z.core.toDotPath(issue.path), message: issue.message })),
  });
}
