import type { PowerCutReport } from "./explore/report.ts";

/** Reason of a {@link QemuError}, for programs. */
export type QemuErrorCode =
  | "QEMU_BAD_OPTIONS"
  | "QEMU_NOT_FOUND"
  | "QEMU_TOO_OLD"
  | "QEMU_FIRMWARE_NOT_FOUND"
  | "QEMU_TOOL_NOT_FOUND"
  | "QEMU_ACCELERATOR_UNUSABLE"
  | "QEMU_START_FAILED"
  | "QEMU_START_TIMEOUT"
  | "QEMU_IMAGE_LOCKED"
  | "QEMU_FORWARD_FAILED"
  | "QEMU_TPM_FAILED"
  | "QEMU_NOT_FORKABLE"
  | "QEMU_TEMPLATE_FAILED"
  | "QEMU_SNAPSHOT_NOT_FOUND"
  | "QEMU_SNAPSHOT_CORRUPT"
  | "QEMU_SNAPSHOT_MISMATCH"
  | "QEMU_SNAPSHOT_SECRET"
  | "QEMU_AGENT_TIMEOUT"
  | "QEMU_AGENT_REFUSED"
  | "QEMU_AGENT_PROTOCOL"
  | "QEMU_OUTPUT_LIMIT"
  | "QEMU_FILE"
  | "QEMU_CONSOLE_TIMEOUT"
  | "QEMU_SCREEN_TIMEOUT"
  | "QEMU_OCR_FAILED"
  | "QEMU_EXITED"
  | "QEMU_EXIT_TIMEOUT"
  | "QEMU_CLOSED"
  | "QEMU_POWER_CUT_UNSAFE"
  | "QEMU_SEED_FAILED"
  | "QEMU_UNSUPPORTED"
  | "QEMU_UNPLUG_REFUSED"
  | "QEMU_STUCK"
  | "QEMU_ABORTED"
  | "QEMU_QMP_BAD_ARGUMENTS"
  | "QEMU_QMP_COMMAND_FAILED"
  | "QEMU_QMP_NO_OUT_OF_BAND"
  | "QEMU_QMP_TIMEOUT"
  | "QEMU_QMP_CLOSED"
  | "QEMU_QMP_PROTOCOL"
  | "QEMU_QMP_OVERFLOW";

/** One thing that has to be as it was when a snapshot was made, and is not. */
export interface Difference {
  /** what it is: `qemu.version`, `disks[0].content`, `machine.memoryMiB`, … */
  readonly name: string;
  /** as it was; `none` when there was none */
  readonly expected: string;
  /** as it is; `none` when there is none */
  readonly got: string;
}

/** Facts that a {@link QemuError} carries beside its message; each is present only where it is known. */
export interface QemuErrorDetails {
  /** what a person can do about it */
  readonly hint?: string | undefined;
  /** copy-pasteable command line of the process that failed */
  readonly commandLine?: string | undefined;
  /** exit code of the process, absent when a signal ended it */
  readonly exitCode?: number | undefined;
  /** signal that ended the process */
  readonly signal?: string | undefined;
  /** last part of what the process wrote on its standard error */
  readonly stderrTail?: string | undefined;
  /** last part of the console, escape sequences removed */
  readonly consoleTail?: string | undefined;
  /** what a wait waited for, as text */
  readonly waitedFor?: string | undefined;
  /** how long was waited, in `milliseconds` */
  readonly timeoutMs?: number | undefined;
  /** file the error is about */
  readonly path?: string | undefined;
  /** places that were searched, in order */
  readonly searched?: readonly string[] | undefined;
  /** error class QEMU named in its QMP reply */
  readonly qmpClass?: string | undefined;
  /** name of the error that the guest's agent refused with, such as `ENOENT` */
  readonly errno?: string | undefined;
  /** problems of a description, or of the arguments of a QMP command, one per wrong field */
  readonly issues?: readonly { readonly path: string; readonly message: string }[] | undefined;
  /** what a snapshot was made with and what is here instead, one entry per difference */
  readonly differences?: readonly Difference[] | undefined;
  /** what was tried by {@link explorePowerCuts}, and what did not hold */
  readonly powerCuts?: PowerCutReport | undefined;
  /** the seed with which a scenario of {@link fuzzSeeds} failed */
  readonly seed?: number | undefined;
  /** the original error */
  readonly cause?: unknown;
}

/**
 * Thrown by everything in this package for whatever goes wrong outside the caller's code: a missing tool, a refused
 * description, a machine that does not start, ends too early or never says what was waited for.
 */
export class QemuError extends Error {
  static {
    Object.defineProperty(this.prototype, "name", { value: "QemuError", configurable: true, writable: true });
  }

  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: QemuErrorCode;
  /** What a person can do about it. */
  declare readonly hint?: string;
  /** Copy-pasteable command line of the process that failed. */
  declare readonly commandLine?: string;
  /** Exit code of the process, absent when a signal ended it. */
  declare readonly exitCode?: number;
  /** Signal that ended the process. */
  declare readonly signal?: string;
  /** Last part of what the process wrote on its standard error. */
  declare readonly stderrTail?: string;
  /** Last part of the console, escape sequences removed. */
  declare readonly consoleTail?: string;
  /** What a wait waited for, as text. */
  declare readonly waitedFor?: string;
  /** How long was waited, in `milliseconds`. */
  declare readonly timeoutMs?: number;
  /** File the error is about. */
  declare readonly path?: string;
  /** Places that were searched, in order. */
  declare readonly searched?: readonly string[];
  /** Error class QEMU named in its QMP reply. */
  declare readonly qmpClass?: string;
  /** Name of the error that the guest's agent refused with, such as `ENOENT`. */
  declare readonly errno?: string;
  /** Problems of a description, or of the arguments of a QMP command, one per wrong field. */
  declare readonly issues?: readonly { readonly path: string; readonly message: string }[];
  /** What a snapshot was made with and what is here instead, one entry per difference. */
  declare readonly differences?: readonly Difference[];
  /** What was tried by {@link explorePowerCuts}, and what did not hold. */
  declare readonly powerCuts?: PowerCutReport;
  /** The seed with which a scenario of {@link fuzzSeeds} failed. */
  declare readonly seed?: number;

  /**
   * @param code - Reason, for programs.
   * @param message - Lower-case sentence without a full stop.
   * @param details - Facts to carry; undefined ones are left out.
   */
  constructor(code: QemuErrorCode, message: string, details: QemuErrorDetails = {}) {
    const { cause, ...facts } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    for (const [key, value] of Object.entries(facts)) {
      if (value !== undefined) Object.defineProperty(this, key, { value, enumerable: true });
    }
  }
}
