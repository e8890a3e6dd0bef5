import type { ErofsProblem } from "./check/problems.ts";
import type { VerityReport } from "./verity/verify.ts";

/** Why an operation of this package failed; a closed set, so a `switch` over it can be exhaustive. */
export type ErofsErrorCode =
  | "EROFS_BAD_CHECKSUM"
  | "EROFS_BAD_DUMP"
  | "EROFS_BAD_MAGIC"
  | "EROFS_BAD_OPTIONS"
  | "EROFS_BAD_TAR"
  | "EROFS_BAD_TREE"
  | "EROFS_CHANGED"
  | "EROFS_CORRUPT"
  | "EROFS_DAMAGED"
  | "EROFS_DISK_FULL"
  | "EROFS_EXISTS"
  | "EROFS_HTTP"
  | "EROFS_IO"
  | "EROFS_LIMIT"
  | "EROFS_NOT_FOUND"
  | "EROFS_NOT_REPRESENTABLE"
  | "EROFS_TIMEOUT"
  | "EROFS_TRUNCATED"
  | "EROFS_UNSUPPORTED"
  | "EROFS_VERITY_DAMAGED"
  | "EROFS_WRONG_TYPE";

/** Facts that go with an {@link ErofsError}; absent where they do not apply. */
export interface ErofsErrorDetails {
  /** absolute position at which decoding stopped, in `bytes` */
  readonly offset?: number;
  /** file on this machine, or path inside the image */
  readonly path?: string;
  /** what a person can do about it */
  readonly hint?: string;
  /** what verification found */
  readonly report?: VerityReport;
  /** what is wrong with an image */
  readonly problems?: readonly ErofsProblem[];
  readonly cause?: unknown;
}

/**
 * The only error this package throws for bad images, bad options and failing files. Wrong argument types are
 * `TypeError`s, and an aborted operation throws its signal's reason.
 *
 * @example
 * try {
 *   await openErofs(source);
 * } catch (error) {
 *   if (error instanceof ErofsError && error.code === "EROFS_BAD_MAGIC") console.log("not EROFS");
 * }
 */
export class ErofsError extends Error {
  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: ErofsErrorCode;
  /** Absolute position at which decoding stopped, in `bytes`. */
  declare readonly offset?: number;
  /** File on this machine, or path inside the image. */
  declare readonly path?: string;
  /** What a person can do about it. */
  declare readonly hint?: string;
  /** What verification found, with `EROFS_VERITY_DAMAGED`. */
  declare readonly report?: VerityReport;
  /** What is wrong with an image, with `EROFS_DAMAGED`. */
  declare readonly problems?: readonly ErofsProblem[];

  static {
    this.prototype.name = "ErofsError";
  }

  /**
   * @param code - Reason.
   * @param message - Sentence without a full stop: `<expected>, got <actual>`.
   * @param details - Facts for programs.
   */
  constructor(code: ErofsErrorCode, message: string, details: ErofsErrorDetails = {}) {
    const { cause, ...facts } = details;
    super(message + whereText(message, facts), cause === undefined ? undefined : { cause });
    this.code = code;
    Object.assign(this, facts);
  }
}

/** What the message does not say of the place: a path, unless it is in there, and an offset. */
function whereText(message: string, { path, offset }: ErofsErrorDetails): string {
  const places: string[] = [];
  // A name with line ends would look like lines of ours.
  if (path !== undefined && !names(message, path)) places.push(/\p{Cc}/u.test(path) ? JSON.stringify(path) : path);
  if (offset !== undefined) places.push(`at byte ${offset}`);
  return places.length === 0 ? "" : ` (${places.join(", ")})`;
}

/** Whether a path is in a text, and not only the letters of it. */
function names(text: string, path: string): boolean {
  const isApart = (character: string | undefined): boolean => character === undefined || /[\s'",;:()]/.test(character);
  // An empty one is everywhere.
  if (path === "") return true;
  for (let at = text.indexOf(path); at !== -1; at = text.indexOf(path, at + 1)) {
    if (isApart(text[at - 1]) && isApart(text[at + path.length])) return true;
  }
  return false;
}
