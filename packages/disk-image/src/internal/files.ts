import {
  type AtomicFiles,
  atomicFiles,
  inPlaceFiles,
  ioErrors,
  type OpenInPlace,
  type ReportFileError,
  type Sources,
  sources,
} from "@leveret/block-source";
import { DiskImageError, type DiskImageErrorCode } from "../errors.ts";

const CODES = {
  full: "DISK_FULL",
  io: "DISK_IO",
  "not-found": "DISK_NOT_FOUND",
  truncated: "DISK_TRUNCATED",
  "wrong-type": "DISK_WRONG_TYPE",
} as const satisfies Record<string, DiskImageErrorCode>;

const report: ReportFileError = (kind, message, facts) => new DiskImageError(CODES[kind], message, facts);

/** Files of this machine, with this package's errors. */
export const files: Sources = sources(report);

/** Turns a failure of `node:fs` into this package's error; anything else, such as an abort, passes unchanged. */
export const ioError = ioErrors(report);

/** Writes files whole or not at all. */
export const atomic: AtomicFiles = atomicFiles(report);

/** Opens files to be changed where they lie. */
export const openInPlace: OpenInPlace = inPlaceFiles(report);
