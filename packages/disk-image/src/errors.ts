/** Why an operation of this package failed; a closed set, so a `switch` over it can be exhaustive. */
export type DiskImageErrorCode =
  | "DISK_BAD_CHECKSUM"
  | "DISK_BAD_MAGIC"
  | "DISK_BAD_NAME"
  | "DISK_BAD_OPTIONS"
  | "DISK_CHANGED"
  | "DISK_CORRUPT"
  | "DISK_FULL"
  | "DISK_HTTP"
  | "DISK_IO"
  | "DISK_LIMIT"
  | "DISK_NOT_FOUND"
  | "DISK_TIMEOUT"
  | "DISK_TOO_SMALL"
  | "DISK_TRUNCATED"
  | "DISK_UNSUPPORTED"
  | "DISK_WRONG_TYPE";

/** Facts that go with a {@link DiskImageError}; absent where they do not apply. */
export interface DiskImageErrorDetails {
  /** position in the source at which decoding stopped, in `bytes` */
  readonly offset?: number;
  /** file on this machine, or path inside a file system */
  readonly path?: string;
  /** what did not fit, in `bytes` */
  readonly neededBytes?: number;
  /** room there was for it, in `bytes` */
  readonly availableBytes?: number;
  /** what a person can do about it */
  readonly hint?: string;
  readonly cause?: unknown;
}

/**
 * The only error this package throws for bad images, bad options, content that does not fit and failing files. An
 * aborted operation throws its signal's reason.
 *
 * @example
 * try {
 *   await writeDiskImage("os.raw", description);
 * } catch (error) {
 *   if (error instanceof DiskImageError && error.code === "DISK_TOO_SMALL") console.log(error.neededBytes);
 * }
 */
export class DiskImageError extends Error {
  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: DiskImageErrorCode;
  /** Position in the source at which decoding stopped, in `bytes`. */
  declare readonly offset?: number;
  /** File on this machine, or path inside a file system. */
  declare readonly path?: string;
  /** What did not fit, in `bytes`. */
  declare readonly neededBytes?: number;
  /** Room there was for it, in `bytes`. */
  declare readonly availableBytes?: number;
  /** What a person can do about it. */
  declare readonly hint?: string;

  static {
    this.prototype.name = "DiskImageError";
  }

  /**
   * @param code - Reason.
   * @param message - Sentence without a full stop: `<expected>, got <actual>`.
   * @param details - Facts for programs.
   */
  constructor(code: DiskImageErrorCode, message: string, details: DiskImageErrorDetails = {}) {
    const { cause, ...facts } = details;
    const where = facts.offset === undefined ? "" : ` (at byte ${facts.offset})`;
    super(message + where, cause === undefined ? undefined : { cause });
    this.code = code;
    Object.assign(this, facts);
  }
}
