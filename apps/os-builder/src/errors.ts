/** Reasons of {@link OsBuilderError}; renaming one is a breaking change. */
export type OsBuilderErrorCode =
  /** no `os.config.ts` where one was looked for */
  | "OS_NO_CONFIG"
  /** a description that throws, does not compile or exports nothing */
  | "OS_CONFIG_FAILED"
  /** a description with mistakes; `issues` has all of them */
  | "OS_BAD_CONFIG"
  /** no `os.lock.json` beside the description */
  | "OS_NO_LOCK"
  /** a lock of other packages than the description asks for */
  | "OS_STALE_LOCK"
  /** signing keys that are missing, incomplete or wrong; the message names each file */
  | "OS_BAD_KEYS"
  /** a `/usr` larger than its slot */
  | "OS_SLOT_TOO_SMALL"
  /** an EFI system partition without room for two kernel images */
  | "OS_ESP_TOO_SMALL"
  /** another command at work in the same project */
  | "OS_BUSY"
  /** no room left on the disk */
  | "OS_DISK_FULL"
  /** a place that this user may not write to */
  | "OS_NOT_WRITABLE"
  /** a machine that a layer of the trust chain refused to boot; `layer` says which */
  | "OS_BOOT_REFUSED"
  /** a machine that ended before it reported */
  | "OS_BOOT_FAILED"
  /** a machine that runs, but has not verified everything */
  | "OS_BOOT_UNVERIFIED"
  /** a program or file that this machine lacks */
  | "OS_MISSING_TOOLS";

/** One mistake in a description. */
export interface ConfigIssue {
  /** where: `packages[2]`, `kernel.arguments`; empty for the whole description */
  readonly path: string;
  /** what was expected there */
  readonly message: string;
}

/** Facts beside the message of an {@link OsBuilderError}. */
export interface OsBuilderErrorDetails {
  /** what a person could do about it */
  readonly hint?: string | undefined;
  /** the file or directory it is about */
  readonly path?: string | undefined;
  /** the layer of the trust chain that refused */
  readonly layer?: string | undefined;
  /** every mistake in a description */
  readonly issues?: readonly ConfigIssue[] | undefined;
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
  /** The layer of the trust chain that refused: `firmware`, `verity` … */
  declare readonly layer?: string;
  /** Every mistake in a description. */
  declare readonly issues?: readonly ConfigIssue[];

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
