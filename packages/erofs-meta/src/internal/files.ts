import { packageFiles } from "@leveret/block-source";
import { ErofsError, type ErofsErrorCode } from "../errors.ts";

/** Files of this machine, with this package's errors. */
export const { files, ioError, atomic, openInPlace, openHttp } = packageFiles<ErofsErrorCode>(ErofsError, {
  changed: "EROFS_CHANGED",
  full: "EROFS_DISK_FULL",
  http: "EROFS_HTTP",
  io: "EROFS_IO",
  "not-found": "EROFS_NOT_FOUND",
  timeout: "EROFS_TIMEOUT",
  truncated: "EROFS_TRUNCATED",
  "wrong-type": "EROFS_WRONG_TYPE",
});
