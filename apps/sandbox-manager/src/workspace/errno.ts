import { constants } from "node:os";

/** Refuses one request with a number that the guest's program sees; never leaves this folder. */
export class Refusal extends Error {
  /** number of errno(3), positive */
  readonly errno: number;

  constructor(name: keyof typeof constants.errno) {
    super(name);
    this.errno = constants.errno[name];
  }
}

/**
 * Number that a request is answered with when `error` was thrown.
 *
 * @returns Undefined for what is neither a refusal nor an error of the operating system: a bug.
 */
export function errnoOf(error: unknown): number | undefined {
  if (error instanceof Refusal) return error.errno;
  const number = (error as { errno?: unknown } | null)?.errno;
  return typeof number === "number" && number < 0 && number > -4096 ? -number : undefined;
}

/** Whether an error of the operating system is the one named. */
export function isErrno(error: unknown, name: keyof typeof constants.errno): boolean {
  return errnoOf(error) === constants.errno[name];
}
