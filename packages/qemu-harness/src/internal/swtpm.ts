import { closeSync, openSync, readSync } from "node:fs";
import type { Duplex } from "node:stream";
import { QemuError } from "../errors.ts";
import { findProgram } from "../qemu.ts";
import { type Child, spawnChild } from "./child.ts";
import { openUnnamedFile } from "./unnamed-file.ts";

/** A running TPM emulator. */
export interface Swtpm {
  readonly child: Child;
  /** control connection, to be handed to QEMU and then closed here */
  readonly control: Duplex;
}

/** What {@link startSwtpm} needs. */
export interface SwtpmOptions {
  /** file that keeps the state, default: an unnamed one */
  readonly statePath?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const CONTROL_FD = 3;
const STATE_FD = 4;
/** `swtpmlin` as a little-endian integer: how the linear storage backend of swtpm 0.7 begins its files */
const STATE_MAGIC = "nilmptws";

/**
 * Starts swtpm as a TPM 2.0 that ends when its control connection does.
 *
 * A blank state needs no set-up: the TPM library manufactures the TPM when it is first powered on, with the PCR banks
 * SHA-1, SHA-256, SHA-384 and SHA-512. (Fewer banks make OVMF no faster: it computes every hash it knows.)
 */
export async function startSwtpm(options: SwtpmOptions): Promise<Swtpm> {
  const program = await findProgram("swtpm", options.env);
  if (program === undefined) {
    throw new QemuError("QEMU_TOOL_NOT_FOUND", "expected the program swtpm in PATH, got none", {
      hint: "install it (Debian: apt install swtpm)",
    });
  }
  const state = options.statePath === undefined ? openUnnamedFile() : openState(options.statePath);
  try {
    const argv = [
      "socket",
      "--tpm2",
      ...["--ctrl", `type=unixio,clientfd=${CONTROL_FD}`],
      // By its descriptor: any path works, also one with a comma, and a file without a name.
      ...["--tpmstate", `backend-uri=file:///dev/fd/${STATE_FD}`],
      "--terminate",
    ];
    const child = await spawnChild(program, argv, { fds: ["pipe", state], env: options.env });
    return { child, control: child.pipe(CONTROL_FD) };
  } finally {
    closeSync(state);
  }
}

function openState(path: string): number {
  let descriptor: number;
  try {
    descriptor = openSync(path, "a+", 0o600);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_TPM_FAILED", `expected a TPM state file that can be written, got: ${reason}`, {
      path,
      cause,
    });
  }
  // swtpm would format whatever else it is given.
  const start = Buffer.alloc(STATE_MAGIC.length);
  const length = readSync(descriptor, start, 0, start.length, 0);
  if (length === 0 || start.toString("latin1") === STATE_MAGIC) return descriptor;
  closeSync(descriptor);
  const found = start.subarray(0, length).toString("hex");
  throw new QemuError(
    "QEMU_TPM_FAILED",
    `expected a TPM state file that swtpm wrote, got one that begins with ${found}`,
    {
      path,
      hint: "name a file that does not exist yet to get a new TPM",
    },
  );
}
