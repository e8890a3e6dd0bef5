/** What can go wrong with a file. */
export type FileErrorKind = "full" | "io" | "not-found" | "same-file" | "too-large" | "truncated" | "wrong-type";

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
export type FileErrors = (error: unknown, verb: "create" | "open" | "read" | "write", path: string) => unknown;

const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Makes the translation of failures for one package. */
export function ioErrors(report: ReportFileError): FileErrors {
  return (error, verb, path) => {
    if (!isSystemError(error)) return error;
    const { code } = error;
    const facts = { path, cause: error };
    if (code === "ENOENT") {
      const expected = verb === "create" ? `a directory for ${path}` : `a file at ${path}`;
      return report("not-found", `expected ${expected}, got none`, facts);
    }
    const message = `cannot ${verb === "create" ? "make a file beside" : verb} ${path}: ${reasonOf(error)}`;
    if (FULL.has(code)) {
      return report("full", message, { ...facts, hint: "free some space, or choose another place for the output" });
    }
    return report("io", message, facts);
  };
}

/** What the system says in words, without its code, the call, and the temporary name of a file. */
function reasonOf(error: Error): string {
  return /^[A-Z0-9]+: (.+?), /.exec(error.message)?.[1] ?? error.message;
}

function isSystemError(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}
