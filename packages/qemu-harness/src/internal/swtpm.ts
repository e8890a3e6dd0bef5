import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { QemuError } from "../errors.ts";
import { findProgram } from "../qemu.ts";
import { type Child, spawnChild } from "./child.ts";

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

/**
 * Starts swtpm as a TPM 2.0 that ends when its control connection does.
 *
 * A blank state needs no set-up: the TPM library manufactures the TPM when it is first powered on.
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
      // By descriptor: any path works, also one with a comma, and an unnamed file.
      ...["--tpmstate", `backend-uri=file:///dev/fd/${STATE_FD}`],
      "--terminate",
    ];
    const child = await spawnChild(program, argv, { fds: ["pipe", state], env: options.env });
    return { child, control: child.pipe(CONTROL_FD) };
  } finally {
    closeSync(state);
  }
}

/** Opens a new file that has no name any more: it is gone with its last descriptor, however processes end. */
export function openUnnamedFile(): number {
  const path = join(tmpdir(), `.qemu-harness-${randomUUID()}`);
  const descriptor = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  return descriptor;
}

function openState(path: string): number {
  try {
    return openSync(path, "a+", 0o600);
  } catch (cause) {
    throw new QemuError(
      "QEMU_TPM_FAILED",
      `expected a TPM state file that can be written at ${path}, got: ${String(cause)}`,
      {
        path,
        cause,
      },
    );
  }
}
