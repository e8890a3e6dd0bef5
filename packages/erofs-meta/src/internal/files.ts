import { packageFiles } from "@leveret/block-source";
import { ErofsError, type ErofsErrorCode } from "../errors.ts";

/** Files of this machine, with this package's errors. */
export const { files, ioError, atomic, openInPlace } = packageFiles<ErofsErrorCode>(ErofsError, {
  full: "EROFS_DISK_FULL",
  io: "EROFS_IO",
  "not-found": "EROFS_NOT_FOUND",
  truncated: "EROFS_TRUNCATED",
  "wrong-type": "EROFS_WRONG_TYPE",
});
