import { type CommandIo, table, writeJson } from "@leveret/command";
import { probeAccelerator } from "../accelerator.ts";
import { QemuError } from "../errors.ts";
import { findFirmware } from "../firmware.ts";
import { findProgram, findQemu } from "../qemu.ts";

/** `qemu-harness probe` */
export async function probe(flags: { fresh?: boolean; json?: boolean }, io: CommandIo): Promise<void> {
  const { env, signal } = io;
  const qemu = await findQemu({ env });
  const plain = await firmwareOrError(false, qemu.path, env);
  const secure = await firmwareOrError(true, qemu.path, env);
  const swtpm = await findProgram("swtpm", env);
  const accelerator = await probeAccelerator({ qemu, env, signal, fresh: flags.fresh });
  if (flags.json === true) {
    const firmware = { plain: present(plain), secureBoot: present(secure) };
    writeJson(io, { kind: "qemu-harness.probe", version: 1, qemu, firmware, swtpm: swtpm ?? null, accelerator });
    return;
  }
  const rows = [
    ["QEMU", `${qemu.versionText} (${qemu.path})`],
    ["accelerator", `${accelerator.kind}: ${accelerator.reason}${accelerator.cached ? " (known from before)" : ""}`],
    ["UEFI", describe(plain)],
    ["UEFI, Secure Boot", describe(secure)],
    ["TPM emulator", swtpm ?? "none; install it (Debian: apt install swtpm)"],
  ];
  io.stdout.write(`${table(rows)}\n`);
}

type FirmwareResult = Awaited<ReturnType<typeof findFirmware>> | QemuError;

async function firmwareOrError(secureBoot: boolean, qemuPath: string, env: CommandIo["env"]): Promise<FirmwareResult> {
  try {
    return await findFirmware({ secureBoot, qemuPath, env });
  } catch (error) {
    if (error instanceof QemuError) return error;
    throw error;
  }
}

function present(result: FirmwareResult): object | null {
  return result instanceof QemuError ? null : result;
}

function describe(result: FirmwareResult): string {
  return result instanceof QemuError ? `none; ${result.hint}` : result.codePath;
}
