import { ErofsError, type ErofsErrorCode } from "../errors.ts";

/** One thing that is wrong with an image. */
export interface ErofsProblem {
  /** what kind of damage it is */
  readonly code: ErofsErrorCode;
  /** what was expected and what is there */
  readonly message: string;
  /** position in the image in `bytes`, where it is known */
  readonly offset?: number;
  /** absolute path inside the image; absent for what concerns all of it */
  readonly path?: string;
}

/** Gathers problems up to a limit. */
export class ProblemList {
  readonly found: ErofsProblem[] = [];
  readonly #limit: number;
  isIncomplete = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(problem: ErofsProblem): void {
    if (this.found.length < this.#limit) this.found.push(problem);
    else this.isIncomplete = true;
  }

  /** Adds what is wrong according to an error of this package; others, limits, and failing disks, pass through. */
  addError(error: unknown, path?: string): void {
    if (!(error instanceof ErofsError) || error.code === "EROFS_IO" || error.code === "EROFS_LIMIT") throw error;
    const { code, message, offset } = error;
    const where = error.path ?? path;
    this.add({ code, message, ...(offset !== undefined && { offset }), ...(where !== undefined && { path: where }) });
  }

  /** Runs a check; what it throws is a problem, and its result is undefined then. */
  async try<T>(path: string, check: () => Promise<T>): Promise<T | undefined> {
    try {
      return await check();
    } catch (error) {
      this.addError(error, path);
      return undefined;
    }
  }
}
