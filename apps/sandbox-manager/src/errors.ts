/** Reasons of {@link SandboxError}; renaming one is a breaking change. */
export type SandboxErrorCode =
  /** options that make no sense; the message names the one */
  | "SANDBOX_BAD_OPTIONS"
  /** no sandbox of that name, or none of this project */
  | "SANDBOX_NOT_FOUND"
  /** several sandboxes, of which nobody has said which one is meant */
  | "SANDBOX_AMBIGUOUS"
  /** every name is taken */
  | "SANDBOX_NONE_FREE"
  /** a machine that did not come up */
  | "SANDBOX_START_FAILED"
  /** a sandbox that ended while something was asked of it */
  | "SANDBOX_ENDED"
  /** a program that writes more than somebody wants to have */
  | "SANDBOX_OUTPUT_LIMIT"
  /** a command that did not end well */
  | "SANDBOX_COMMAND_FAILED"
  /** a file of the sandbox that cannot be read or written */
  | "SANDBOX_FILE"
  /** a supervisor that does not speak this version's protocol */
  | "SANDBOX_PROTOCOL"
  /** a program or file that this host lacks */
  | "SANDBOX_MISSING_TOOLS"
  /** a place that this user may not write to */
  | "SANDBOX_NOT_WRITABLE"
  /** what a guest says it has changed, and cannot have */
  | "SANDBOX_CHANGES_INVALID"
  /** files that were changed in the sandbox and in the project */
  | "SANDBOX_CONFLICT"
  /** changes of an isolated workspace that would be lost */
  | "SANDBOX_UNAPPLIED"
  /** a file of the project that cannot be read, or changed */
  | "SANDBOX_PROJECT_FILE"
  /** a workspace that is not a directory, or not there */
  | "SANDBOX_WORKSPACE_DIRECTORY"
  /** a guest whose requests for files are none */
  | "SANDBOX_WORKSPACE_PROTOCOL"
  /** a guest that goes on using its workspace when it is asked to pause */
  | "SANDBOX_WORKSPACE_TIMEOUT"
  /** a guest that went away from its workspace */
  | "SANDBOX_WORKSPACE_CLOSED"
  /** a rule, a preset or a file of rules that is none */
  | "SANDBOX_NETWORK_RULE"
  /** a secret that is not written as one, or whose value is not there */
  | "SANDBOX_NETWORK_SECRET"
  /** frames, packets and requests of a guest that are none */
  | "SANDBOX_NETWORK_MALFORMED"
  /** a connection of a guest that may not be, or cannot */
  | "SANDBOX_NETWORK_REFUSED"
  /** a connection of a guest that ended before its time */
  | "SANDBOX_NETWORK_CLOSED";

/** Facts beside the message of a {@link SandboxError}. */
export interface SandboxErrorDetails {
  /** what a person could do about it */
  readonly hint?: string | undefined;
  /** the sandbox it is about */
  readonly sandbox?: string | undefined;
  /** the file or directory it is about */
  readonly path?: string | undefined;
  /** the original error */
  readonly cause?: unknown;
}

/** Thrown by this package. Errors of the libraries below it pass through as they are: they carry a `code` too. */
export class SandboxError extends Error {
  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: SandboxErrorCode;
  /** What a person could do about it. */
  declare readonly hint?: string;
  /** The sandbox it is about. */
  declare readonly sandbox?: string;
  /** The file or directory it is about. */
  declare readonly path?: string;

  static {
    this.prototype.name = "SandboxError";
  }

  constructor(code: SandboxErrorCode, message: string, details: SandboxErrorDetails = {}) {
    const { cause, ...facts } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    for (const [name, value] of Object.entries(facts)) {
      if (value !== undefined) Object.defineProperty(this, name, { value, enumerable: true });
    }
  }
}
