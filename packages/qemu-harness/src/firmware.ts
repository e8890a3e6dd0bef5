// Environment read: LEVERET_OVMF.
import { constants } from "node:fs";
import { access, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { QemuError } from "./errors.ts";

/** A UEFI firmware: code and the empty variable store that belongs to it, both raw flash images. */
export interface Firmware {
  /** read-only code */
  readonly codePath: string;
  /** empty variable store, a template to copy */
  readonly variablesPath: string;
}

/** Where {@link findFirmware} looks, and for what. */
export interface FindFirmwareOptions {
  /** whether the build has to support Secure Boot guarded by System Management Mode, default false */
  readonly secureBoot?: boolean | undefined;
  /** directory to use; nothing else is then looked at */
  readonly directory?: string | undefined;
  /** QEMU program, whose own firmware is looked at last */
  readonly qemuPath?: string | undefined;
  /** environment, default `process.env` */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

const DIRECTORIES = [
  "/usr/share/OVMF",
  "/usr/share/edk2/ovmf",
  "/usr/share/edk2/x64",
  "/usr/share/edk2-ovmf/x64",
  "/run/current-system/sw/share/OVMF",
  "/run/current-system/sw/share/qemu",
];

// 4 MiB builds only: the 2 MiB ones have too little room in their variable store for a real db and dbx.
const SECURE_PAIRS: readonly (readonly [string, string])[] = [
  ["OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd"],
  ["OVMF_CODE.secboot.4m.fd", "OVMF_VARS.4m.fd"],
  ["edk2-x86_64-secure-code.fd", "edk2-i386-vars.fd"],
];
const PLAIN_PAIRS: readonly (readonly [string, string])[] = [
  ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"],
  ["OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"],
  ["edk2-x86_64-code.fd", "edk2-i386-vars.fd"],
];

/**
 * Finds OVMF: the `directory` option, else the variable `LEVERET_OVMF` (a directory), else the directories that
 * Debian, Fedora, Arch Linux and NixOS use, else the firmware that came with QEMU.
 *
 * @param options - What is needed and where to look.
 * @returns Code and variable store of the first complete pair.
 * @throws {QemuError} `QEMU_FIRMWARE_NOT_FOUND`, with every directory in `searched`.
 * @example
 * const { codePath, variablesPath } = await findFirmware({ secureBoot: true });
 */
export async function findFirmware(options: FindFirmwareOptions = {}): Promise<Firmware> {
  const env = options.env ?? process.env;
  const chosen = options.directory ?? (env.LEVERET_OVMF === "" ? undefined : env.LEVERET_OVMF);
  const searched = chosen === undefined ? [...DIRECTORIES, ...(await besideQemu(options.qemuPath))] : [chosen];
  const pairs = options.secureBoot === true ? SECURE_PAIRS : PLAIN_PAIRS;
  for (const directory of searched) {
    for (const [code, variables] of pairs) {
      const firmware = { codePath: join(directory, code), variablesPath: join(directory, variables) };
      if ((await isReadable(firmware.codePath)) && (await isReadable(firmware.variablesPath))) return firmware;
    }
  }
  const kind = options.secureBoot === true ? "UEFI firmware with Secure Boot" : "UEFI firmware";
  throw new QemuError("QEMU_FIRMWARE_NOT_FOUND", `expected ${kind} in ${searched.join(", ")}, got none`, {
    hint: "install OVMF (Debian: apt install ovmf) or name its directory with LEVERET_OVMF",
    searched,
  });
}

async function besideQemu(qemuPath: string | undefined): Promise<string[]> {
  if (qemuPath === undefined) return [];
  const real = await realpath(qemuPath).catch(() => qemuPath);
  return [join(dirname(real), "../share/qemu")];
}

async function isReadable(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
