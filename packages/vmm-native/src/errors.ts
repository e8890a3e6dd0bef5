/** Reason of a {@link VmmError}, for programs. */
export type VmmErrorCode =
  | "VMM_BAD_OPTIONS"
  | "VMM_NOT_BUILT"
  | "VMM_UNREADABLE"
  | "VMM_START_FAILED"
  | "VMM_PANICKED"
  | "VMM_PROTOCOL"
  | "VMM_REFUSED"
  | "VMM_TIMEOUT"
  | "VMM_NO_BINDING"
  | "VMM_BAD_ARGUMENT"
  | "VMM_TRUNCATED"
  | "VMM_BAD_INSTRUCTION"
  | "VMM_BAD_MAPPING"
  | "VMM_BAD_TABLES"
  | "VMM_BAD_KERNEL"
  | "VMM_BAD_STATE"
  | "VMM_UNWRITABLE";

/** Facts that a {@link VmmError} carries beside its message; each is present only where it is known. */
export interface VmmErrorDetails {
  /** what a person can do about it */
  readonly hint?: string | undefined;
  /** file the error is about */
  readonly path?: string | undefined;
  /** last part of what the hypervisor said */
  readonly logTail?: string | undefined;
  /** copy-pasteable command line of the QEMU that the hypervisor ran in */
  readonly commandLine?: string | undefined;
  /** problems of a description, one per wrong field */
  readonly issues?: readonly { readonly path: string; readonly message: string }[] | undefined;
  /** the original error */
  readonly cause?: unknown;
}

/** Thrown by everything in this package for whatever goes wrong outside the caller's code, but for QEMU itself. */
export class VmmError extends Error {
  static {
    Object.defineProperty(this.prototype, "name", { value: "VmmError", configurable: true, writable: true });
  }

  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: VmmErrorCode;
  /** What a person can do about it. */
  declare readonly hint?: string;
  /** File the error is about. */
  declare readonly path?: string;
  /** Last part of what the hypervisor said. */
  declare readonly logTail?: string;
  /** Copy-pasteable command line of the QEMU that the hypervisor ran in. */
  declare readonly commandLine?: string;
  /** Problems of a description, one per wrong field. */
  declare readonly issues?: readonly { readonly path: string; readonly message: string }[];

  /**
   * @param code - Reason, for programs.
   * @param message - Lower-case sentence without a full stop.
   * @param details - Facts to carry; undefined ones are left out.
   */
  constructor(code: VmmErrorCode, message: string, details: VmmErrorDetails = {}) {
    const { cause, ...facts } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    for (const [key, value] of Object.entries(facts)) {
      if (value !== undefined) Object.defineProperty(this, key, { value, enumerable: true });
    }
  }
}
