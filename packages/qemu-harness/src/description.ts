import { createHash } from "node:crypto";
import * as z from "zod";
import { toDotPath } from "zod/v4/core";
import { agentCredentialNames } from "./agent/credentials.ts";
import { clockSchema, withoutVirtualClock } from "./clock.ts";
import { QemuError } from "./errors.ts";

/**
 * Most bytes of SMBIOS strings and credentials together: the 32-bit entry point of QEMU 7.2 addresses 64 KiB in all, of
 * which an agent that comes as credentials takes less than 24.
 */
export const DEFAULT_MAX_SMBIOS_BYTES = 32 * 1024;

const text = z
  .string()
  .refine((value) => !value.includes("\0"), "expected text without NUL bytes, which no argument can carry");
const path = text.min(1, "expected a path, got an empty string");

const variablesSchema = z.strictObject({
  /** raw variable store as big as the firmware's template, typically written by `@leveret/uki-sign` */
  path,
  /** whether the guest's changes are kept in that file instead of being thrown away with the machine */
  writable: z.boolean().default(false),
});

const firmwareSchema = z.strictObject({
  /** read-only firmware code */
  codePath: path,
  /** empty variable store that belongs to it */
  variablesPath: path,
});

const plainUefiSchema = z.strictObject({
  type: z.literal("uefi"),
  secureBoot: z.literal(false).default(false),
  /** firmware to use instead of the one {@link findFirmware} finds */
  firmware: firmwareSchema.optional(),
  /** variable store, default: a throw-away copy of the firmware's empty one */
  variables: variablesSchema.optional(),
});

const secureUefiSchema = z.strictObject({
  type: z.literal("uefi"),
  /** System Management Mode guards the variable store; the enrolled keys decide what boots */
  secureBoot: z.literal(true),
  firmware: firmwareSchema.optional(),
  /** variable store with enrolled keys; required, because an empty store is in set-up mode and refuses nothing */
  variables: variablesSchema,
});

const directBoot = {
  initrdPath: path.optional(),
  /** kernel command line */
  commandLine: text.default(""),
  /** always absent: `-kernel` goes around Secure Boot, and the guest would still report it as enforced */
  secureBoot: z
    .undefined({
      error:
        "expected no secureBoot with a direct kernel boot: QEMU's -kernel goes around Secure Boot; boot from a disk",
    })
    .optional(),
};

const kernelSchema = z.strictObject({
  /** any kernel, with exactly the command line that is given */
  type: z.literal("kernel"),
  /** bzImage, or any image QEMU's `-kernel` starts (PVH ELF, multiboot) */
  kernelPath: path,
  ...directBoot,
});

const linuxSchema = z.strictObject({
  /** a Linux kernel, whose command line begins with what Linux has to be told when it is emulated */
  type: z.literal("linux"),
  /** bzImage, or vmlinux with a PVH note */
  kernelPath: path,
  ...directBoot,
  /** whether Linux leaves out what takes long and no test needs: self-tests, mitigations, messages */
  fast: z.boolean().default(false),
});

const biosSchema = z.strictObject({
  /** SeaBIOS, which starts the first disk or CD that has a boot sector */
  type: z.literal("bios"),
});

const bootSchema = z.discriminatedUnion("type", [
  kernelSchema,
  linuxSchema,
  biosSchema,
  z.discriminatedUnion("secureBoot", [plainUefiSchema, secureUefiSchema]),
]);

/** serial number the guest sees, at most 20 bytes */
const serial = text.max(20, "expected at most 20 bytes, the size of a virtio-blk serial number").optional();

const fileDiskSchema = z.strictObject({
  type: z.literal("file").default("file"),
  path,
  format: z.enum(["raw", "qcow2"]).default("raw"),
  /** `throw-away` keeps writes in an unnamed overlay that ends with the machine; `writable` changes the file */
  access: z.enum(["throw-away", "writable", "read-only"]).default("throw-away"),
  serial,
});

const deviceDiskSchema = z.strictObject({
  /** a disk in this process that can go wrong, from {@link createBlockDevice} */
  type: z.literal("device"),
  /** which one of the `devices` that the machine is started with */
  name: z.string().min(1),
  serial,
});

const diskSchema = z.discriminatedUnion("type", [fileDiskSchema, deviceDiskSchema]);

/** A disk that is an image file, with every default filled in. */
export type FileDisk = z.output<typeof fileDiskSchema>;

const cdSchema = z.strictObject({
  /** ISO 9660 image */
  path,
});

const port = z.number().int().min(1).max(65535);

export const forwardSchema = z.strictObject({
  protocol: z.enum(["tcp", "udp"]).default("tcp"),
  /** IPv4 address of the host to listen on */
  hostAddress: z.ipv4().default("127.0.0.1"),
  hostPort: port,
  guestPort: port,
});

const mac = z
  .string()
  .regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, "expected an address of one card, such as 52:54:00:12:34:56");

const userNetworkSchema = z.strictObject({
  /** the network of the host, as QEMU imitates it for one machine: addresses by DHCP, forwards to get in */
  type: z.literal("user"),
  /** whether the guest is kept from everything but the forwards */
  isolated: z.boolean().default(false),
  forwards: z.array(forwardSchema).default([]),
  /** default: made of the machine's name */
  mac: mac.optional(),
});

/** A network of type `user` with every default filled in. */
export type UserNetwork = z.output<typeof userNetworkSchema>;

const privateNetworkSchema = z.strictObject({
  /** an Ethernet of machines of this process, from {@link createNetwork}, with nobody else on it */
  type: z.literal("private"),
  /** which one of the `networks` that the machine is started with */
  name: z.string().min(1),
  /** default: made of the machine's name */
  mac: mac.optional(),
});

const networkSchema = z.discriminatedUnion("type", [userNetworkSchema, privateNetworkSchema]);

const consoleSchema = z.strictObject({
  /** name for {@link Machine.console} */
  name: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,30}$/, "expected lower-case letters, digits and hyphens, starting with a letter"),
  /**
   * `serial` is a 16550 (`ttyS0`… in order), `virtio` a virtio console (`hvc0`… in order), `port` a virtio serial port
   * (`/dev/virtio-ports/` and the name), which no terminal line discipline and no login prompt gets hold of
   */
  type: z.enum(["serial", "virtio", "port"]).default("serial"),
});

const tpmSchema = z.strictObject({
  /** file that keeps the TPM's state, made when missing; default: the state ends with the machine */
  statePath: path.optional(),
});

const side = z.number().int().min(320).max(4096);

const graphicsSchema = z.strictObject({
  /** size in pixels that the display says it likes best; firmware and text consoles may use another one */
  width: side.default(1024),
  height: side.default(768),
});

const fwCfgSchema = z
  .strictObject({
    /** item name, `opt/…` for everything that is not QEMU's own */
    name: text.min(1).max(55, "expected at most 55 bytes, the size of a fw_cfg file name"),
    value: text.optional(),
    path: path.optional(),
  })
  .refine((item) => (item.value === undefined) !== (item.path === undefined), "expected exactly one of value and path");

const machineFields = z.strictObject({
  /** name in process lists and error messages */
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "expected letters, digits, dots, underscores and hyphens")
    .default("machine"),
  /** guest memory in `MiB` */
  memoryMiB: z
    .number()
    .int()
    .min(1)
    .max(1024 * 1024)
    .default(512),
  /** virtual processors */
  cpus: z.number().int().min(1).max(255).default(1),
  /** whether {@link Machine.setMemory} can take memory from the guest */
  balloon: z.boolean().default(false),
  /**
   * what kind of PC: `q35` with PCI Express, `pc` with plain PCI as in 1996, or `microvm`, which has hardly anything,
   * starts soonest and takes a direct kernel boot only
   */
  machine: z.enum(["q35", "pc", "microvm"]).default("q35"),
  boot: bootSchema,
  /** disks in boot order */
  disks: z.array(diskSchema).max(16).default([]),
  /** CDs in boot order, after all disks */
  cds: z.array(cdSchema).max(2).default([]),
  /** a TPM 2.0 */
  tpm: tpmSchema.optional(),
  /** network cards, default none; one `user` at most */
  networks: z.array(networkSchema).max(8).default([]),
  /** consoles, the first is {@link Machine.serial} */
  consoles: z
    .array(consoleSchema)
    .min(1)
    .max(8)
    .default([{ name: "serial0", type: "serial" }]),
  /** display, keyboard and mouse for {@link Machine.screen}, default none */
  graphics: graphicsSchema.optional(),
  /** how time passes; a virtual clock makes a machine whose runs repeat */
  clock: clockSchema.default({ type: "host" }),
  /** whether the guest has a virtio entropy source fed from the host; with a virtual clock it has none */
  rng: z.boolean().default(true),
  fwCfg: z.array(fwCfgSchema).default([]),
  /** SMBIOS type 11 strings, such as `io.systemd.stub.kernel-cmdline-extra=…`; visible in process lists */
  smbiosStrings: z.array(text.min(1)).default([]),
  /** systemd credentials by name; they reach QEMU through inherited files and never show in an argument vector */
  credentials: z
    .record(
      z.string().regex(/^[^/\0=:]{1,255}$/, "expected a credential name without slash, colon or equals sign"),
      z.union([z.string(), z.instanceof(Uint8Array)]),
    )
    .default({}),
  /**
   * whether the machine has {@link Machine.agent}; a direct kernel boot then begins with the agent, which goes on with
   * the `/init` of its initrd, if there is one; in all others it is given to systemd 256 or newer as credentials
   */
  agent: z.boolean().default(false),
  /**
   * whether {@link Machine.template} can be taken: memory is then a file without a name that forks map privately, and
   * nothing that a fork could not share is kept
   */
  forkable: z.boolean().default(false),
  /** arguments appended as they are */
  extraArgs: z.array(text).default([]),
});

/**
 * Schema of a machine description; unknown keys are errors.
 *
 * The guest is a PC in which nothing exists that the description does not list.
 */
export const machineSchema = machineFields.superRefine((machine, context) => {
  const impossible: Issue[] = [
    ...missingHardware(machine),
    ...(machine.forkable ? unforkable(machine) : []),
    ...withoutVirtualClock(machine).map(([path, message]) => ({ path: [path], message })),
  ];
  for (const issue of impossible) context.addIssue({ code: "custom", ...issue });
  if (machine.networks.filter(({ type }) => type === "user").length > 1) {
    context.addIssue({ code: "custom", path: ["networks"], message: "expected at most one network of type user" });
  }
  const names = machine.consoles.map((item) => item.name);
  for (const [index, name] of names.entries()) {
    if (names.indexOf(name) !== index) {
      context.addIssue({
        code: "custom",
        path: ["consoles", index, "name"],
        message: `expected unique names, got ${name} twice`,
      });
    }
  }
  for (const name of agentCredentialNames(machine)) {
    if (!Object.hasOwn(machine.credentials, name)) continue;
    const message = `expected no credential ${name} in a machine with an agent, which comes with one of that name`;
    context.addIssue({ code: "custom", path: ["credentials", name], message });
  }
  const credentialBytes = Object.entries(machine.credentials).reduce(
    (sum, [name, value]) => sum + name.length + Math.ceil(Buffer.byteLength(value) / 3) * 4 + 40,
    0,
  );
  const bytes = machine.smbiosStrings.reduce((sum, value) => sum + Buffer.byteLength(value) + 1, credentialBytes);
  if (bytes > DEFAULT_MAX_SMBIOS_BYTES) {
    context.addIssue({
      code: "custom",
      path: ["smbiosStrings"],
      message: `expected at most ${DEFAULT_MAX_SMBIOS_BYTES} bytes of SMBIOS strings and credentials, got ${bytes}`,
    });
  }
});

/** Serial ports at the addresses and interrupts that PCs have had for them since the first. */
const MAX_SERIAL_PORTS = 4;

type Issue = { path: (string | number)[]; message: string };

type Fields = z.output<typeof machineFields>;

/** What of a machine its kind of PC does not have. */
function missingHardware({ machine, boot, tpm, cds, graphics, consoles }: Fields): Issue[] {
  const issues: Issue[] = [];
  const serialPorts = consoles.filter(({ type }) => type === "serial").length;
  if (serialPorts > MAX_SERIAL_PORTS) {
    issues.push({ path: ["consoles"], message: `expected at most ${MAX_SERIAL_PORTS} consoles of type serial` });
  }
  if (machine === "pc" && boot.type === "uefi" && boot.secureBoot) {
    issues.push({ path: ["machine"], message: "expected q35 for Secure Boot, whose variable store pc cannot guard" });
  }
  if (machine !== "microvm") return issues;
  if (!isDirect(boot)) {
    issues.push({ path: ["boot", "type"], message: "expected linux or kernel for a microvm, which boots no disk" });
  }
  if (tpm !== undefined) issues.push({ path: ["tpm"], message: "expected none in a microvm, which has no bus for it" });
  if (cds.length > 0) issues.push({ path: ["cds"], message: "expected none in a microvm, which has no bus for them" });
  if (graphics !== undefined)
    issues.push({ path: ["graphics"], message: "expected none in a microvm, which has no display" });
  return issues;
}

/** What of a machine would be written by all of its forks at once. */
function unforkable({ boot, disks, tpm }: Fields): Issue[] {
  const issues: Issue[] = [];
  const refuse = (path: (string | number)[], what: string): void => {
    issues.push({ path, message: `expected ${what} in a forkable machine, whose forks would all write the same file` });
  };
  for (const [index, disk] of disks.entries()) {
    if (disk.type === "file" && disk.access === "writable")
      refuse(["disks", index, "access"], "throw-away or read-only");
  }
  if (boot.type === "uefi" && boot.variables?.writable === true) refuse(["boot", "variables", "writable"], "false");
  if (tpm?.statePath !== undefined) refuse(["tpm", "statePath"], "none");
  return issues;
}

/** Whether QEMU itself loads the kernel. */
export function isDirect(boot: ResolvedMachine["boot"]): boot is z.output<typeof kernelSchema | typeof linuxSchema> {
  return boot.type === "kernel" || boot.type === "linux";
}

/** Whether what is written to a disk goes to an overlay that ends with the machine. */
export function isThrownAway(disk: ResolvedMachine["disks"][number]): disk is FileDisk {
  return disk.type === "file" && disk.access === "throw-away";
}

/** Whether a console is two pipes, because its device writes byte by byte; ports write blocks, and are sockets. */
export function isPipe({ type }: ResolvedMachine["consoles"][number]): boolean {
  return type !== "port";
}

/** Address of a machine's card: its own, or one made of the machine's name, so that it is the same each time. */
export function macOf({ name, networks }: Pick<ResolvedMachine, "name" | "networks">, index: number): string {
  const made = createHash("sha256").update(`${name} ${index}`).digest("hex").slice(0, 6);
  // QEMU's own range.
  return networks[index]?.mac ?? `52:54:00:${made.match(/../g)?.join(":")}`;
}

/** A machine as people write it: everything with a default may be left out. */
export type MachineDescription = z.input<typeof machineSchema>;

/** A machine description with every default filled in. */
export type ResolvedMachine = z.output<typeof machineSchema>;

/**
 * Checks a machine description and fills in its defaults.
 *
 * @param description - Plain object, for example from a JSON file; not modified.
 * @returns The same machine with every default filled in.
 * @throws {QemuError} `QEMU_BAD_OPTIONS` with one entry in `issues` per wrong field.
 * @example
 * resolveMachine({ boot: { type: "uefi" } }).memoryMiB; // 512
 */
export function resolveMachine(description: MachineDescription): ResolvedMachine {
  return parseOptions("machine description", machineSchema, description);
}

/** Validates `input` with `schema`; every problem is reported at once. */
export function parseOptions<T extends z.ZodType>(what: string, schema: T, input: unknown): z.output<T> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw new QemuError("QEMU_BAD_OPTIONS", `expected a valid ${what}, got\n${z.prettifyError(result.error)}`, {
    issues: result.error.issues.map((issue) => ({ path: toDotPath(issue.path), message: issue.message })),
  });
}
