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
import { ErofsError, type ErofsErrorCode } from "../errors.ts";

const CODES = {
  full: "EROFS_DISK_FULL",
  io: "EROFS_IO",
  "not-found": "EROFS_NOT_FOUND",
  truncated: "EROFS_TRUNCATED",
  "wrong-type": "EROFS_WRONG_TYPE",
} as const satisfies Record<string, ErofsErrorCode>;

const report: ReportFileError = (kind, message, facts) => new ErofsError(CODES[kind], message, facts);

/** Files of this machine, with this package's errors. */
export const files: Sources = sources(report);

/** Turns a failure of `node:fs` into this package's error; anything else, such as an abort, passes unchanged. */
export const ioError = ioErrors(report);

/** Writes files whole or not at all. */
export const atomic: AtomicFiles = atomicFiles(report);

/** Opens files to be changed where they lie. */
export const openInPlace: OpenInPlace = inPlaceFiles(report);
