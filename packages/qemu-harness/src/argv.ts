import type { AcceleratorKind } from "./accelerator.ts";
import { clockArguments } from "./clock.ts";
import { type FileDisk, isDirect, macOf, type ResolvedMachine, type UserNetwork } from "./description.ts";
import type { Firmware } from "./firmware.ts";
import { AGENT_INIT } from "./initrd.ts";
import type { QemuVersion } from "./qemu.ts";

/** Numbers of the file descriptors that QEMU inherits, one end of a socket pair or an open file each. */
export interface MachineFds {
  /** QMP control socket */
  readonly qmp: number;
  /** directory with pipes `NAME.in` and `NAME.out` for consoles, absent when all of them are of type `port` */
  readonly pipes?: number | undefined;
  /** per console the socket of one of type `port`, which is written in blocks; undefined for a pipe */
  readonly ports?: readonly (number | undefined)[] | undefined;
  /** control socket of the TPM emulator, present exactly when the machine has a TPM */
  readonly tpm?: number | undefined;
  /** one readable file per credential, in the description's order; each holds one SMBIOS type 11 string */
  readonly credentials: readonly number[];
  /** the agent's socket, present exactly when the machine has one */
  readonly agent?: number | undefined;
  /** per network card the socket of its private network; undefined for a user network */
  readonly networks?: readonly (number | undefined)[] | undefined;
  /** per disk the socket on which this process serves it; undefined for a file */
  readonly devices?: readonly (number | undefined)[] | undefined;
  /** initrd that begins with the agent */
  readonly initrd?: number | undefined;
  /** file that pictures of the display are written to, present exactly when the machine has one */
  readonly screen?: number | undefined;
  /** what the guest writes, present exactly when the machine is forkable or a fork */
  readonly files?: FileFds | undefined;
}

/** Numbers of the descriptors of files that a forkable machine or a fork writes. */
export interface FileFds {
  /** the guest's memory */
  readonly memory: number;
  /** per disk the qcow2 overlays that its writes go to, each on top of the one before */
  readonly overlays: readonly (readonly number[])[];
  /** state of the devices, present exactly in a fork: memory is private then, and QEMU waits to be given the state */
  readonly state?: number | undefined;
}

/** What {@link buildArgv} has to know beside the machine. */
export interface ArgvContext {
  /** how guest code is run */
  readonly accelerator: AcceleratorKind;
  /** version of the QEMU that gets the arguments */
  readonly qemuVersion: QemuVersion;
  /** firmware pair, required for a UEFI boot */
  readonly firmware?: Firmware | undefined;
  /** inherited file descriptors */
  readonly fds: MachineFds;
  /** what the command line of a kernel begins with */
  readonly parameters?: readonly string[] | undefined;
}

/**
 * Builds QEMU's argument vector for a machine. Pure: same input, same output, nothing is read.
 *
 * @param machine - Machine with every default filled in, from {@link resolveMachine}.
 * @param context - Accelerator, QEMU version, firmware and descriptors.
 * @returns Arguments without the program, options and their values alternating.
 * @throws {Error} When a UEFI machine comes without firmware, or a TPM without its descriptor: a bug of the caller.
 */
export function buildArgv(machine: ResolvedMachine, context: ArgvContext): readonly string[] {
  return [
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    ...["-display", "none"],
    ...["-name", `guest=${escapeValue(machine.name)}`],
    ...["-machine", machineType(machine, context)],
    ...["-accel", context.accelerator],
    ...["-cpu", cpuModel(context)],
    ...["-smp", `cpus=${machine.cpus}`],
    ...["-m", `size=${machine.memoryMiB}M`],
    ...memoryArguments(machine, context.fds.files),
    ...["-chardev", `socket,id=qmp,fd=${context.fds.qmp}`],
    ...["-mon", "chardev=qmp,mode=control"],
    ...bootArguments(machine, context),
    ...consoleArguments(machine, context.fds),
    ...machine.disks.flatMap((disk, index) => [
      ...(disk.type === "device"
        ? deviceArguments(index, context.fds)
        : driveArguments(disk, index, context.fds.files?.overlays[index] ?? [])),
      ...diskArguments(machine, index),
    ]),
    ...machine.cds.flatMap((cd, index) => cdArguments(machine, cd.path, index)),
    ...tpmArguments(machine, context.fds),
    ...networkArguments(machine, context.fds),
    ...clockArguments(machine),
    ...rngArguments(machine),
    ...(machine.balloon ? ["-device", "virtio-balloon-pci"] : []),
    ...graphicsArguments(machine),
    ...machine.fwCfg.flatMap((item) => [
      "-fw_cfg",
      item.path === undefined
        ? `name=${escapeValue(item.name)},string=${escapeValue(item.value ?? "")}`
        : `name=${escapeValue(item.name)},file=${escapeValue(item.path)}`,
    ]),
    ...machine.smbiosStrings.flatMap((value) => ["-smbios", `type=11,value=${escapeValue(value)}`]),
    ...context.fds.credentials.flatMap((fd) => ["-smbios", `type=11,path=/dev/fd/${fd}`]),
    ...machine.extraArgs,
  ];
}

/**
 * Renders a program and its arguments as one line that a POSIX shell reads back as the same words.
 *
 * @param program - Program, absolute or from PATH.
 * @param argv - Its arguments.
 * @returns One line, quoted where necessary.
 * @example
 * commandLine("qemu-system-x86_64", ["-name", "a b"]); // qemu-system-x86_64 -name 'a b'
 */
export function commandLine(program: string, argv: readonly string[]): string {
  return [program, ...argv].map(quoteWord).join(" ");
}

function quoteWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

// QEMU's option parser ends a value at a comma unless it is doubled.
function escapeValue(value: string): string {
  return value.replaceAll(",", ",,");
}

// Without a slash before it, a colon would make what precedes it a block protocol such as `nbd:` or `json:`.
function imagePath(path: string): string {
  return escapeValue(path.startsWith("/") ? path : `./${path}`);
}

function cpuModel(context: ArgvContext): string {
  if (context.accelerator === "kvm") return "host";
  // Fast string instructions are emulated item by item, and loops of vector moves are not: a boot takes a fifth less
  // when the guest does not think them fast.
  const slow = ["-erms", "-fsrm"];
  // QEMU 7.2 mis-emulates CMPXCHG16B the way Linux 6.12 uses it: one boot in five crashes. Fixed in 8.0.
  const wrong = context.qemuVersion.major < 8 ? ["-cx16"] : [];
  return ["max", ...slow, ...wrong].join(",");
}

function machineType(machine: ResolvedMachine, { fds }: ArgvContext): string {
  const memory = fds.files === undefined ? "" : ",memory-backend=memory";
  const kind = {
    q35: `q35,smm=${usesSmm(machine) ? "on" : "off"}`,
    pc: "pc",
    // Without a timer and an interrupt controller of the old kind Linux finds no clock when it is emulated. The drivers
    // for virtio on PCI are in every kernel, those for virtio at fixed addresses are modules in most.
    microvm: "microvm,acpi=on,pit=on,pic=on,rtc=on,pcie=on,isa-serial=off",
  }[machine.machine];
  // A BIOS writes to the first serial port when there is no screen.
  return `${kind}${machine.boot.type === "bios" && machine.graphics === undefined ? ",graphics=off" : ""}${memory}`;
}

// A fork sees what the template's memory held; what it writes there is its own.
function memoryArguments(machine: ResolvedMachine, files: FileFds | undefined): string[] {
  if (files === undefined) return [];
  const share = files.state === undefined ? "on" : "off";
  const backend = `id=memory,size=${machine.memoryMiB}M,mem-path=/dev/fd/${files.memory},share=${share}`;
  return ["-object", `memory-backend-file,${backend}`, ...(files.state === undefined ? [] : ["-incoming", "defer"])];
}

function usesSmm(machine: ResolvedMachine): boolean {
  return machine.boot.type === "uefi" && machine.boot.secureBoot;
}

function bootArguments(machine: ResolvedMachine, { firmware, fds, parameters = [] }: ArgvContext): string[] {
  const { boot } = machine;
  if (isDirect(boot)) {
    // The kernel of a fork is in memory already.
    if (fds.files?.state !== undefined) return [];
    const initrdPath = fds.initrd === undefined ? boot.initrdPath : `/dev/fd/${fds.initrd}`;
    const init = fds.initrd === undefined ? [] : [`rdinit=${AGENT_INIT}`];
    const line = [...init, ...parameters, boot.commandLine].join(" ").trim();
    return [
      ...["-kernel", boot.kernelPath],
      ...(initrdPath === undefined ? [] : ["-initrd", initrdPath]),
      ...(line === "" ? [] : ["-append", line]),
    ];
  }
  if (boot.type === "bios") return ["-boot", "menu=off,strict=on"];
  if (firmware === undefined) throw new Error("bug: a UEFI machine needs firmware");
  const variables = boot.variables ?? { path: firmware.variablesPath, writable: false };
  return [
    // With S3 the firmware would have to keep a boot script that SMM protects; machines here are never suspended.
    ...["-global", machine.machine === "pc" ? "PIIX4_PM.disable_s3=1" : "ICH9-LPC.disable_s3=1"],
    // Only code in System Management Mode may then write the variable store.
    ...(boot.secureBoot ? ["-global", "driver=cfi.pflash01,property=secure,value=on"] : []),
    ...["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${imagePath(firmware.codePath)}`],
    ...[
      "-drive",
      `if=pflash,unit=1,format=raw,${variables.writable ? "" : "snapshot=on,"}file=${imagePath(variables.path)}`,
    ],
    ...["-boot", "menu=off,strict=on"],
  ];
}

/** Name by which the agent in the guest finds its port. */
const AGENT_PORT = "leveret.agent";

type Console = ResolvedMachine["consoles"][number];

const CONSOLE_DEVICES = { serial: "isa-serial", virtio: "virtconsole", port: "virtserialport" } as const;

function consoleArguments(machine: ResolvedMachine, fds: MachineFds): string[] {
  const onBus = machine.agent || machine.consoles.some((item) => item.type !== "serial");
  const bus = onBus ? ["-device", "virtio-serial-pci"] : [];
  return [
    ...bus,
    ...machine.consoles.flatMap((item, index) => [
      ...["-chardev", `${channel(item, fds.ports?.[index], fds.pipes)},id=console-${item.name}`],
      ...["-device", `${CONSOLE_DEVICES[item.type]},chardev=console-${item.name}${portName(item)}`],
    ]),
    ...(fds.agent === undefined
      ? []
      : [
          ...["-chardev", `socket,id=agent,fd=${fds.agent}`],
          ...["-device", `virtserialport,chardev=agent,name=${AGENT_PORT}`],
        ]),
  ];
}

function channel({ type, name }: Console, port: number | undefined, pipes: number | undefined): string {
  return type === "port" ? `socket,fd=${port}` : `pipe,path=/dev/fd/${pipes}/${name}`;
}

// What /dev/virtio-ports calls it inside.
function portName({ type, name }: Console): string {
  return type === "port" ? `,name=${name}` : "";
}

// Trims are of interest to whoever serves the disk, and errors to the guest.
function deviceArguments(index: number, { devices }: MachineFds): string[] {
  const server = { type: "fd", str: String(devices?.[index]) };
  return ["-blockdev", JSON.stringify({ "node-name": `disk${index}`, driver: "nbd", discard: "unmap", server })];
}

function driveArguments(disk: FileDisk, index: number, overlays: readonly number[]): string[] {
  if (overlays.length > 0) {
    const base: object = { driver: disk.format, "read-only": true, file: { driver: "file", filename: disk.path } };
    const node = overlays.reduce((backing, fd, layer) => overlayNode(fd, backing, layer < overlays.length - 1), base);
    return ["-blockdev", JSON.stringify({ "node-name": `disk${index}`, ...node })];
  }
  const access = {
    // What is thrown away needs no flushes.
    "throw-away": "snapshot=on,cache=unsafe",
    // Trimmed and zeroed ranges become holes, so a sparse image stays sparse.
    writable: "cache=writeback,discard=unmap,detect-zeroes=unmap",
    "read-only": "readonly=on",
  }[disk.access];
  return ["-drive", `if=none,id=disk${index},format=${disk.format},${access},file=${imagePath(disk.path)}`];
}

// What is thrown away needs no flushes.
function overlayNode(fd: number, backing: object, readOnly: boolean): object {
  const file = { driver: "file", filename: `/dev/fd/${fd}` };
  return { driver: "qcow2", cache: { "no-flush": true }, "read-only": readOnly, file, backing };
}

function diskArguments(machine: ResolvedMachine, index: number): string[] {
  const { serial, type } = machine.disks[index] ?? {};
  const options = [
    bootIndex(machine, index),
    serial === undefined ? "" : `,serial=${escapeValue(serial)}`,
    // A full disk would otherwise stop the machine until somebody makes room.
    type === "device" ? ",write-cache=on,rerror=report,werror=report" : "",
  ].join("");
  return ["-device", `virtio-blk-pci,drive=disk${index}${options}`];
}

function cdArguments(machine: ResolvedMachine, path: string, index: number): string[] {
  // Both kinds of controller have two channels at least.
  const order = bootIndex(machine, machine.disks.length + index);
  return [
    ...["-drive", `if=none,id=cd${index},format=raw,readonly=on,file=${imagePath(path)}`],
    ...["-device", `ide-cd,drive=cd${index},bus=ide.${index}${order}`],
  ];
}

// A direct kernel boot is itself the first thing to boot.
function bootIndex({ boot }: ResolvedMachine, index: number): string {
  return isDirect(boot) ? "" : `,bootindex=${index}`;
}

function tpmArguments(machine: ResolvedMachine, fds: MachineFds): string[] {
  if (machine.tpm === undefined) return [];
  if (fds.tpm === undefined) throw new Error("bug: a machine with a TPM needs the descriptor of its emulator");
  return [
    ...["-chardev", `socket,id=tpm,fd=${fds.tpm}`],
    ...["-tpmdev", "emulator,id=tpm0,chardev=tpm"],
    ...["-device", "tpm-crb,tpmdev=tpm0"],
  ];
}

function networkArguments(machine: ResolvedMachine, fds: MachineFds): string[] {
  return machine.networks.flatMap((network, index) => {
    const backend =
      network.type === "user" ? userNetwork(network, index) : `socket,id=net${index},fd=${fds.networks?.[index]}`;
    // No option ROM: firmware would only try to boot from the network with it.
    const card = `virtio-net-pci,netdev=net${index},mac=${macOf(machine, index)},romfile=`;
    return [...["-netdev", backend], ...["-device", card]];
  });
}

function userNetwork({ isolated, forwards }: UserNetwork, index: number): string {
  const options = forwards.map(
    ({ protocol, hostAddress, hostPort, guestPort }) => `,hostfwd=${protocol}:${hostAddress}:${hostPort}-:${guestPort}`,
  );
  return `user,id=net${index}${isolated ? ",restrict=on" : ""}${options.join("")}`;
}

function graphicsArguments({ graphics }: ResolvedMachine): string[] {
  if (graphics === undefined) return [];
  return [
    ...["-device", `VGA,xres=${graphics.width},yres=${graphics.height}`],
    // A tablet and not a mouse: where it points does not depend on where it was. Not on USB, whose controller firmware
    // gives up on when the host is busy. The keyboard is on every PC's board.
    ...["-device", "virtio-tablet-pci"],
  ];
}

function rngArguments(machine: ResolvedMachine): string[] {
  // The host's answers come at its time, and are random.
  if (!machine.rng || machine.clock.type === "virtual") return [];
  return [...["-object", "rng-random,id=rng0,filename=/dev/urandom"], ...["-device", "virtio-rng-pci,rng=rng0"]];
}
