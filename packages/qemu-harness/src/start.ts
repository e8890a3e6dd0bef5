import { closeSync, writeSync } from "node:fs";
import type { Duplex } from "node:stream";
import type { Accelerator, AcceleratorKind } from "./accelerator.ts";
import { buildArgv } from "./argv.ts";
import { QemuError } from "./errors.ts";
import { type Firmware, findFirmware } from "./firmware.ts";
import { type Child, killChild, spawnChild } from "./internal/child.ts";
import { openUnnamedFile, type Swtpm, startSwtpm } from "./internal/swtpm.ts";
import { abortError, type WaitOptions } from "./internal/wait.ts";
import { type MachineDescription, type ResolvedMachine, resolveMachine } from "./machine.ts";
import { findQemu, type Qemu } from "./qemu.ts";
import { QmpClient } from "./qmp.ts";
import { type Machine, RunningMachine } from "./running-machine.ts";

/** How {@link startMachine} starts. */
export interface StartOptions extends WaitOptions {
  /** QEMU to use, default what {@link findQemu} finds */
  readonly qemu?: Qemu | undefined;
  /** how guest code is run, default `auto`: KVM when it was seen to work, else TCG */
  readonly accelerator?: AcceleratorKind | "auto" | undefined;
  /** environment of QEMU and of the search for programs, default `process.env` */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** directory that relative paths start from, default the process's */
  readonly cwd?: string | undefined;
  /** called with every chunk a console writes, from the first byte on; must not keep or change it */
  readonly onConsole?: ((name: string, chunk: Uint8Array) => void) | undefined;
}

/** How long, in `milliseconds`, QEMU may take until it answers. */
export const DEFAULT_START_TIMEOUT_MS = 30_000;

const QMP_FD = 3;
const KILL_TIMEOUT_MS = 5000;

/**
 * Starts a machine. Its processes end with it, with `signal`, and with this process, however that ends; nothing of it
 * has a name in the file system.
 *
 * @param description - The machine.
 * @param options - `timeoutMs` bounds the start alone, default {@link DEFAULT_START_TIMEOUT_MS}; `signal` also ends the
 *   running machine.
 * @returns The running machine.
 * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_NOT_FOUND`, `QEMU_TOO_OLD`, `QEMU_FIRMWARE_NOT_FOUND`,
 *   `QEMU_TOOL_NOT_FOUND`, `QEMU_TPM_FAILED`, `QEMU_IMAGE_LOCKED`, `QEMU_START_FAILED` with what QEMU said,
 *   `QEMU_START_TIMEOUT`, `QEMU_ABORTED`.
 * @example
 * await using machine = await startMachine({ boot: { type: "uefi" }, disks: [{ path: "os.raw" }] });
 * await machine.serial.waitFor("login:");
 */
export async function startMachine(description: MachineDescription, options: StartOptions = {}): Promise<Machine> {
  const machine = resolveMachine(description);
  const env = options.env ?? process.env;
  if (options.signal?.aborted === true) throw abortError(options.signal);
  const qemu = options.qemu ?? (await findQemu({ env }));
  const firmware = await chooseFirmware(machine, qemu, env);
  const accelerator: Accelerator = { kind: "tcg", reason: "emulation" };
  const credentials: number[] = [];
  let swtpm: Swtpm | undefined;
  let child: Child | undefined;
  try {
    if (machine.tpm !== undefined) swtpm = await startSwtpm({ statePath: machine.tpm.statePath, env });
    for (const [name, value] of Object.entries(machine.credentials)) credentials.push(credentialFile(name, value));
    const inherited: ("pipe" | number | Duplex)[] = ["pipe"];
    const inherit = (item: "pipe" | number | Duplex): number => QMP_FD - 1 + inherited.push(item);
    const fds = {
      qmp: QMP_FD,
      consoles: machine.consoles.map(() => inherit("pipe")),
      tpm: swtpm === undefined ? undefined : inherit(swtpm.control),
      credentials: credentials.map(inherit),
    };
    const argv = buildArgv(machine, { accelerator: accelerator.kind, qemuVersion: qemu.version, firmware, fds });
    child = await spawnChild(qemu.path, argv, { fds: inherited, env, cwd: options.cwd });
    swtpm?.control.destroy();
    const running = new RunningMachine({
      machine,
      accelerator,
      child,
      swtpm: swtpm?.child,
      consoleFds: fds.consoles,
      options,
    });
    running.attach(await handshake(child, swtpm?.child, options));
    return running;
  } catch (error) {
    swtpm?.control.destroy();
    if (child !== undefined) await killChild(child, KILL_TIMEOUT_MS);
    if (swtpm !== undefined) await killChild(swtpm.child, KILL_TIMEOUT_MS);
    throw error;
  } finally {
    for (const descriptor of credentials) closeSync(descriptor);
  }
}

async function chooseFirmware(
  machine: ResolvedMachine,
  qemu: Qemu,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Firmware | undefined> {
  const { boot } = machine;
  if (boot.type !== "uefi") return undefined;
  return boot.firmware ?? findFirmware({ secureBoot: boot.secureBoot, qemuPath: qemu.path, env });
}

/** Writes one credential as the SMBIOS string that systemd reads it from; returns its descriptor. */
function credentialFile(name: string, value: string | Uint8Array): number {
  const descriptor = openUnnamedFile();
  writeSync(descriptor, `io.systemd.credential.binary:${name}=${Buffer.from(value).toString("base64")}`);
  return descriptor;
}

async function handshake(child: Child, swtpm: Child | undefined, options: StartOptions): Promise<QmpClient> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_START_TIMEOUT_MS;
  try {
    return await QmpClient.connect(child.pipe(QMP_FD), {
      timeoutMs,
      signal: options.signal,
      commandLine: child.commandLine,
    });
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    if (error.code === "QEMU_QMP_TIMEOUT") {
      throw new QemuError("QEMU_START_TIMEOUT", `expected QEMU to answer within ${timeoutMs} ms, got nothing`, {
        commandLine: child.commandLine,
        stderrTail: child.stderrTail(),
        timeoutMs,
        cause: error,
      });
    }
    if (error.code !== "QEMU_QMP_CLOSED") throw error;
    await killChild(child, KILL_TIMEOUT_MS);
    throw startError(child, swtpm, error);
  }
}

function startError(child: Child, swtpm: Child | undefined, cause: QemuError): QemuError {
  const stderrTail = child.stderrTail();
  const details = { ...child.status, commandLine: child.commandLine, stderrTail, cause };
  if (/Failed to get .* lock/.test(stderrTail)) {
    return new QemuError("QEMU_IMAGE_LOCKED", `expected an image no other process uses, got: ${stderrTail}`, {
      ...details,
      hint: 'another machine has the file open for writing; use access: "throw-away" in both, or close the other',
    });
  }
  if (swtpm !== undefined && /tpm-emulator|tpm/i.test(stderrTail)) {
    return new QemuError(
      "QEMU_TPM_FAILED",
      `expected a working TPM, got: ${stderrTail}\n${swtpm.stderrTail()}`,
      details,
    );
  }
  return new QemuError("QEMU_START_FAILED", `expected QEMU to start, got: ${stderrTail || "no message"}`, details);
}
