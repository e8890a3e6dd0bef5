import { DiskImageError } from "../errors.ts";

const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Turns a failure of `node:fs` into the package's error; package errors and aborts pass unchanged. */
export function ioError(error: unknown, verb: "open" | "read" | "write", path: string): unknown {
  if (error instanceof DiskImageError || !isSystemError(error)) return error;
  if (error.code === "ENOENT") {
    return new DiskImageError("DISK_NOT_FOUND", `expected a file at ${path}, got none`, { path, cause: error });
  }
  if (FULL.has(error.code)) {
    return new DiskImageError("DISK_FULL", `cannot write ${path}: ${error.message}`, {
      path,
      hint: "free some space, or choose another place for the output",
      cause: error,
    });
  }
  return new DiskImageError("DISK_IO", `cannot ${verb} ${path}: ${error.message}`, { path, cause: error });
}

function isSystemError(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}
