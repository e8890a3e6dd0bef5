import { QemuError } from "../errors.ts";

/** Passes over that the control connection is gone: what was asked for has ended with the machine. */
export function ignoreClosed(error: unknown): void {
  if (!(error instanceof QemuError) || error.code !== "QEMU_QMP_CLOSED") throw error;
}
