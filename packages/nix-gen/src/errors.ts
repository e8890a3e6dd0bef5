/**
 * Reasons of {@link NixGenError}; renaming one is a breaking change.
 *
 * @see the README's table for what each of them means and what to do
 */
export type NixGenErrorCode =
  // expressions
  | "NIX_GEN_BAD_STRING"
  | "NIX_GEN_BAD_NUMBER"
  | "NIX_GEN_BAD_IDENTIFIER"
  | "NIX_GEN_BAD_PATH"
  | "NIX_GEN_BAD_VALUE"
  | "NIX_GEN_BAD_COMMENT"
  | "NIX_GEN_DUPLICATE_ATTRIBUTE"
  | "NIX_GEN_CYCLE"
  | "NIX_GEN_TOO_DEEP"
  // derivations and flakes
  | "NIX_GEN_BAD_OPTIONS"
  | "NIX_GEN_BAD_STORE_NAME"
  | "NIX_GEN_BAD_HASH"
  | "NIX_GEN_BAD_FOLLOWS"
  | "NIX_GEN_BAD_LOCK"
  // Debian as a source of packages
  | "NIX_GEN_NO_MIRROR"
  | "NIX_GEN_BAD_MIRROR"
  | "NIX_GEN_MIRROR_UNREACHABLE"
  | "NIX_GEN_NOT_ON_MIRROR"
  | "NIX_GEN_NO_RELEASE"
  | "NIX_GEN_BAD_SIGNATURE"
  | "NIX_GEN_BAD_INDEX"
  | "NIX_GEN_NO_APT"
  | "NIX_GEN_BUSY"
  | "NIX_GEN_UNKNOWN_PACKAGE"
  | "NIX_GEN_UNRESOLVABLE"
  | "NIX_GEN_NO_LOCK"
  | "NIX_GEN_BAD_DEB"
  | "NIX_GEN_NO_PROGRAM"
  | "NIX_GEN_OCCUPIED"
  // the nix command
  | "NIX_GEN_NO_NIX"
  | "NIX_GEN_NIX_TOO_OLD"
  | "NIX_GEN_NO_SANDBOX"
  | "NIX_GEN_HASH_MISMATCH"
  | "NIX_GEN_DISK_FULL"
  | "NIX_GEN_NOT_REPRODUCIBLE"
  | "NIX_GEN_BUILD_FAILED"
  // archives and files
  | "NIX_GEN_BAD_JSON"
  | "NIX_GEN_BAD_TREE"
  | "NIX_GEN_IO";

/** Facts beside the message of a {@link NixGenError}. */
export interface NixGenErrorDetails {
  /** where in the given value: `inputs.nixpkgs.url`, `[3].name` */
  readonly path?: string | undefined;
  /** what a person could do about it */
  readonly hint?: string | undefined;
  /** what the programs that failed said last, line by line */
  readonly logTail?: readonly string[] | undefined;
  /** the original error */
  readonly cause?: unknown;
}

/**
 * Thrown by everything in this package for input that can't become correct Nix code, or for a step that failed.
 *
 * @example
 * try { nix(Number.NaN) } catch (error) { error.code } // "NIX_GEN_BAD_NUMBER"
 */
export class NixGenError extends Error {
  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: NixGenErrorCode;
  /** Where in the given value the problem is, as a JavaScript accessor path; absent when it is the value itself. */
  readonly path?: string;
  /** What a person could do about it. */
  readonly hint?: string;
  /** What the programs that failed said last, line by line. */
  readonly logTail?: readonly string[];

  static {
    this.prototype.name = "NixGenError";
  }

  /**
   * @param code - The reason.
   * @param message - `expected …, got …`, lower case, without a full stop; the path is appended.
   * @param details - Where, what to do, and the original error.
   */
  constructor(code: NixGenErrorCode, message: string, details: NixGenErrorDetails = {}) {
    const { path, hint, logTail, cause } = details;
    const where = path === undefined || path === "" ? "" : ` (at ${path})`;
    super(`${message}${where}`, cause === undefined ? undefined : { cause });
    this.code = code;
    if (path !== undefined && path !== "") this.path = path;
    if (hint !== undefined) this.hint = hint;
    if (logTail !== undefined) this.logTail = logTail;
  }
}
