import { packageFiles } from "@leveret/block-source";
import { DiskImageError, type DiskImageErrorCode } from "../errors.ts";

/** Files of this machine, with this package's errors. */
export const { files, ioError, atomic, openInPlace, openHttp, openInput, readWhole } = packageFiles<DiskImageErrorCode>(
  DiskImageError,
  {
    changed: "DISK_CHANGED",
    full: "DISK_FULL",
    http: "DISK_HTTP",
    io: "DISK_IO",
    "not-found": "DISK_NOT_FOUND",
    "same-file": "DISK_BAD_OPTIONS",
    timeout: "DISK_TIMEOUT",
    "too-large": "DISK_LIMIT",
    truncated: "DISK_TRUNCATED",
    "wrong-type": "DISK_WRONG_TYPE",
  },
);
