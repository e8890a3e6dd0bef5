/** Reasons of {@link OsBuilderError}; renaming one is a breaking change. */
export type OsBuilderErrorCode =
  | "OS_NO_CONFIG"
  | "OS_BAD_CONFIG"
  | "OS_CONFIG_FAILED"
  | "OS_CONFIG_EXISTS"
  | "OS_NO_LOCK"
  | "OS_STALE_LOCK"
  | "OS_NO_KEYS"
  | "OS_SLOT_TOO_SMALL"
  | "OS_ESP_TOO_SMALL"
  | "OS_BAD_IMAGE"
  | "OS_NO_IMAGE"
  | "OS_BUSY"
  | "OS_DISK_FULL"
  | "OS_BOOT_REFUSED"
  | "OS_BOOT_FAILED"
  | "OS_BOOT_UNVERIFIED"
  | "OS_MISSING_TOOLS";

/** Facts beside the message of an {@link OsBuilderError}. */
export interface OsBuilderErrorDetails {
  /** what a person could do about it */
  readonly hint?: string | undefined;
  /** the file or directory it is about */
  readonly path?: string | undefined;
  /** every problem of a description, each with its path in it */
  readonly layer?: string | undefined;
  readonly issues?: readonly { readonly path: string; readonly message: string }[] | undefined;
  /** the original error */
  readonly cause?: unknown;
}

/**
 * Thrown by this package. Errors of the libraries below it (Nix, keys, images, QEMU) pass through as they are: they
 * carry a `code`, a message and often a `hint` too.
 */
export class OsBuilderError extends Error {
  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: OsBuilderErrorCode;
  /** What a person could do about it. */
  declare readonly hint?: string;
  /** The file or directory it is about. */
  declare readonly path?: string;
  /** Every problem of a description. */
  declare readonly issues?: readonly { readonly path: string; readonly message: string }[];

  static {
    this.prototype.name = "OsBuilderError";
  }

  constructor(code: OsBuilderErrorCode, message: string, details: OsBuilderErrorDetails = {}) {
    const { cause, ...facts } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    for (const [name, value] of Object.entries(facts)) {
      if (value !== undefined) Object.defineProperty(this, name, { value, enumerable: true });
    }
  }
}
