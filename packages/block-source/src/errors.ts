/** What can go wrong with a file. */
export type FileErrorKind = "full" | "io" | "not-found" | "truncated" | "wrong-type";

/** Makes an error of the package that bundles this one. */
export type ReportFileError = (
  kind: FileErrorKind,
  message: string,
  facts: {
    /** position in `bytes` */
    readonly offset?: number;
    readonly path?: string;
    readonly hint?: string;
    readonly cause?: unknown;
  },
) => Error;

/** Turns a failure of `node:fs` into the package's error; anything else, such as an abort, passes unchanged. */
export type FileErrors = (error: unknown, verb: "open" | "read" | "write", path: string) => unknown;

const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Makes the translation of failures for one package. */
export function ioErrors(report: ReportFileError): FileErrors {
  return (error, verb, path) => {
    if (!isSystemError(error)) return error;
    if (error.code === "ENOENT") {
      return report("not-found", `expected a file at ${path}, got none`, { path, cause: error });
    }
    if (FULL.has(error.code)) {
      const hint = "free some space, or choose another place for the output";
      return report("full", `cannot write ${path}: ${error.message}`, { path, hint, cause: error });
    }
    return report("io", `cannot ${verb} ${path}: ${error.message}`, { path, cause: error });
  };
}

function isSystemError(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}
