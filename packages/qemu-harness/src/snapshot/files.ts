import { atomicFiles, type FileErrors, ioErrors } from "@leveret/block-source";
import { QemuError } from "../errors.ts";

const report = (
  _kind: unknown,
  message: string,
  { path, hint, cause }: { readonly path?: string; readonly hint?: string; readonly cause?: unknown },
): QemuError => new QemuError("QEMU_FILE", message, { path, hint, cause });

/** Failures of files as errors of this package. */
export const fileError: FileErrors = ioErrors(report);

/** Writes small files whole or not at all. */
export const { write: writeAtomically } = atomicFiles(report);
