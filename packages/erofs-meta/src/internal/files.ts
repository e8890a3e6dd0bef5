import { packageFiles } from "@leveret/block-source";
import { ErofsError, type ErofsErrorCode } from "../errors.ts";

/** Files of this machine, with this package's errors. */
export const { files, ioError, atomic, openInPlace, openHttp, openInput, openStream, readWhole } =
  packageFiles<ErofsErrorCode>(ErofsError, {
    changed: "EROFS_CHANGED",
    full: "EROFS_DISK_FULL",
    http: "EROFS_HTTP",
    io: "EROFS_IO",
    "not-found": "EROFS_NOT_FOUND",
    "same-file": "EROFS_BAD_OPTIONS",
    timeout: "EROFS_TIMEOUT",
    "too-large": "EROFS_LIMIT",
    truncated: "EROFS_TRUNCATED",
    "wrong-type": "EROFS_WRONG_TYPE",
  });
