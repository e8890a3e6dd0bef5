import { packageFiles } from "@leveret/block-source";
import { DiskImageError, type DiskImageErrorCode } from "../errors.ts";

/** Files of this machine, with this package's errors. */
export const { files, ioError, atomic, openInPlace } = packageFiles<DiskImageErrorCode>(DiskImageError, {
  full: "DISK_FULL",
  io: "DISK_IO",
  "not-found": "DISK_NOT_FOUND",
  truncated: "DISK_TRUNCATED",
  "wrong-type": "DISK_WRONG_TYPE",
});
