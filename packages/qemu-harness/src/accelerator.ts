import { constants } from "node:fs";
import { access, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { QemuError } from "./errors.ts";
import { cacheDirectory } from "./internal/cache-directory.ts";
import { spawnChild } from "./internal/child.ts";
import { DEBUG_EXIT_PORT, PROBE_EXIT_CODE, probeRom } from "./internal/probe-guest.ts";
import { withUnnamedFile } from "./internal/unnamed-file.ts";
import { assertNotAborted, endsWithin } from "./internal/wait.ts";
import { findQemu, type Qemu } from "./qemu.ts";

/** How guest code is run: by the processor through KVM, or by QEMU's translator. */
export type AcceleratorKind = "kvm" | "tcg";

/** An accelerator and why it was chosen. */
export interface Accelerator {
  readonly kind: AcceleratorKind;
  /** one sentence for people */
  readonly reason: string;
  /** whether the answer was found earlier, by this process or by another since the machine was switched on */
  readonly cached: boolean;
}

/** How {@link probeAccelerator} finds out. */
export interface ProbeOptions {
  /** QEMU to ask, default what {@link findQemu} finds */
  readonly qemu?: Qemu | undefined;
  /** how long the tiny guest may take, in `milliseconds`, default {@link DEFAULT_PROBE_TIMEOUT_MS} */
  readonly timeoutMs?: number | undefined;
  /** whether to ask again although the answer is known */
  readonly fresh?: boolean | undefined;
  /** calls the probe off */
  readonly signal?: AbortSignal | undefined;
  /** environment, default `process.env` */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** How long, in `milliseconds`, the probe guest may take; with working KVM it takes a tenth of a second. */
export const DEFAULT_PROBE_TIMEOUT_MS = 5000;

const KVM_DEVICE = "/dev/kvm";
const BOOT_ID = "/proc/sys/kernel/random/boot_id";
const CACHE_FILE = "qemu-accelerator.json";

const cacheSchema = z.strictObject({ key: z.string(), kind: z.enum(["kvm", "tcg"]), reason: z.string() });

const known = new Map<string, Accelerator>();

/**
 * Finds out whether KVM works, by running a tiny guest in it: `/dev/kvm` can exist, answer its version and still be
 * unable to run a guest, which then spins for ever. Without working KVM the answer is TCG.
 *
 * The answer of a guest that ran, or did not, is remembered in memory and in a file of the user's cache directory, for
 * as long as QEMU, the device and the running kernel are the same.
 *
 * @param options - QEMU, deadline, whether to ask again.
 * @returns The accelerator to use and why; never later than the deadline, even when the guest cannot be killed.
 * @throws {QemuError} `QEMU_NOT_FOUND`, `QEMU_TOO_OLD`, `QEMU_TOOL_NOT_FOUND`, `QEMU_ABORTED`.
 * @example
 * const { kind, reason } = await probeAccelerator();
 */
export function probeAccelerator(options: ProbeOptions = {}): Promise<Accelerator> {
  return probeDevice(KVM_DEVICE, options);
}

/** {@link probeAccelerator} for a device of any name. */
export async function probeDevice(device: string, options: ProbeOptions): Promise<Accelerator> {
  const env = options.env ?? process.env;
  const qemu = options.qemu ?? (await findQemu({ env }));
  const obstacle = await deviceObstacle(device);
  if (obstacle !== undefined) return { kind: "tcg", reason: obstacle, cached: false };
  const key = await identity(qemu, device);
  const path = cachePath(env);
  if (options.fresh !== true) {
    const answer = known.get(key) ?? (await readCache(path, key));
    if (answer !== undefined) return { ...answer, cached: true };
  }
  const answer = await runProbe(qemu, device, env, options);
  known.set(key, answer);
  await writeCache(path, key, answer);
  return answer;
}

async function deviceObstacle(path: string): Promise<string | undefined> {
  try {
    await access(path, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    return missing ? `${path} does not exist` : `${path} may not be opened by this user`;
  }
}

/** Everything the answer depends on: the program, the device and the kernel that is running. */
async function identity(qemu: Qemu, devicePath: string): Promise<string> {
  const [device, program] = await Promise.all([stat(devicePath), stat(qemu.path)]);
  const bootId = await readFile(BOOT_ID, "utf8").catch(() => "");
  return JSON.stringify({
    qemu: [qemu.path, qemu.versionText, program.ino, program.mtimeMs],
    device: [devicePath, device.dev, device.ino, device.rdev],
    bootId: bootId.trim(),
  });
}

async function runProbe(
  qemu: Qemu,
  device: string,
  env: NonNullable<ProbeOptions["env"]>,
  options: ProbeOptions,
): Promise<Accelerator> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_PROBE_TIMEOUT_MS;
  assertNotAborted(options.signal);
  const child = await withUnnamedFile(probeRom(), (rom) => spawnChild(qemu.path, probeArgv(3), { fds: [rom], env }));
  const inTime = await endsWithin(child.ended, timeoutMs, options.signal);
  if (!inTime) {
    child.abandon();
    assertNotAborted(options.signal);
    return tcg(`${device} exists, but a tiny guest did not get to its end in it within ${timeoutMs} ms`);
  }
  if (child.status?.exitCode === PROBE_EXIT_CODE) {
    return { kind: "kvm", reason: "a tiny guest ran to its end in KVM", cached: false };
  }
  const message = child.stderrTail() || `exit code ${child.status?.exitCode ?? child.status?.signal}`;
  return tcg(`${device} exists, but QEMU cannot use it: ${message}`);
}

function tcg(reason: string): Accelerator {
  return { kind: "tcg", reason, cached: false };
}

function probeArgv(romFd: number): readonly string[] {
  return [
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    ...["-display", "none"],
    ...["-machine", "q35"],
    ...["-accel", "kvm"],
    ...["-cpu", "host"],
    ...["-m", "size=16M"],
    ...["-bios", `/dev/fd/${romFd}`],
    ...["-device", `isa-debug-exit,iobase=${DEBUG_EXIT_PORT},iosize=4`],
  ];
}

function cachePath(env: NonNullable<ProbeOptions["env"]>): string | undefined {
  const directory = cacheDirectory(env);
  return directory === undefined ? undefined : join(directory, CACHE_FILE);
}

async function readCache(path: string | undefined, key: string): Promise<Accelerator | undefined> {
  if (path === undefined) return undefined;
  try {
    const entry = cacheSchema.parse(JSON.parse(await readFile(path, "utf8")));
    return entry.key === key ? { kind: entry.kind, reason: entry.reason, cached: true } : undefined;
  } catch {
    // Missing, unreadable or from another version of this package: the guest is simply run again.
    return undefined;
  }
}

async function writeCache(path: string | undefined, key: string, { kind, reason }: Accelerator): Promise<void> {
  if (path === undefined) return;
  const beside = `${path}.${process.pid}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(beside, JSON.stringify({ key, kind, reason }), { mode: 0o600 });
    await rename(beside, path);
  } catch {
    // A cache that cannot be written costs the next process a probe, nothing else.
    await rm(beside, { force: true }).catch(() => {});
  }
}

/**
 * Settles what a machine is run with.
 *
 * @param wanted - `auto` for whatever works.
 * @throws {QemuError} `QEMU_ACCELERATOR_UNUSABLE` when KVM was asked for and does not work.
 */
export async function chooseAccelerator(wanted: AcceleratorKind | "auto", options: ProbeOptions): Promise<Accelerator> {
  if (wanted === "tcg") return { kind: "tcg", reason: "asked for", cached: false };
  const answer = await probeAccelerator(options);
  if (wanted === "kvm" && answer.kind !== "kvm") {
    throw new QemuError("QEMU_ACCELERATOR_UNUSABLE", `expected working KVM, got: ${answer.reason}`, {
      hint: "leave the accelerator to auto to run the machine by emulation",
    });
  }
  return answer;
}
