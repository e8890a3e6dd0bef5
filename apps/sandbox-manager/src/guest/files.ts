import type { SandboxProcess } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";
import { copyIn, copyOut, type SandboxCopyRequest } from "./copy.ts";
import { type RunOptions, runProgram } from "./run-program.ts";

type Abortable = Pick<RunOptions, "signal">;

/** How a file is written. */
export interface SandboxWriteOptions extends Abortable {
  /** its permissions, default 0644 */
  readonly mode?: number | undefined;
}

/** How a file is read. */
export interface SandboxReadOptions extends Abortable {
  /** most that it may have, in `bytes`, default {@link DEFAULT_MAX_OUTPUT_BYTES} */
  readonly maxBytes?: number | undefined;
}

const DEFAULT_MODE = 0o644;
const MAX_MODE = 0o7777;
/** Writes beside the place and moves it there; $1 is the place, $2 its mode. */
const WRITE = `
set -e
mkdir -p -- "$(dirname -- "$1")"
trap 'exit 1' HUP INT TERM
new=$(mktemp -- "$1.XXXXXXXX")
trap 'rm -f -- "$new"' EXIT
cat > "$new"
chmod "$2" "$new"
mv -T -- "$new" "$1"
`;

/** Files inside of a sandbox. Paths are absolute, or from `/workspace` on. */
export class SandboxFiles {
  readonly #spawn: (argv: readonly string[]) => Promise<SandboxProcess>;

  /** Use {@link Sandbox.files}. */
  constructor(spawn: (argv: readonly string[]) => Promise<SandboxProcess>) {
    this.#spawn = spawn;
  }

  /**
   * Reads a file.
   *
   * @throws {SandboxError} `SANDBOX_FILE`, `SANDBOX_OUTPUT_LIMIT`, `SANDBOX_ENDED`; the signal's reason.
   */
  async read(path: string, { maxBytes, signal }: SandboxReadOptions = {}): Promise<Uint8Array> {
    return this.#run(["/bin/cat", "--", named(path)], { maxOutputBytes: maxBytes, signal });
  }

  /** Reads a file of text in UTF-8. @throws As {@link SandboxFiles.read}. */
  async readText(path: string, options: SandboxReadOptions = {}): Promise<string> {
    return Buffer.from(await this.read(path, options)).toString("utf8");
  }

  /**
   * Writes a file, in whole or not at all, and the directories that it needs.
   *
   * @param content - Text is written in UTF-8.
   * @throws {SandboxError} `SANDBOX_FILE`, `SANDBOX_BAD_OPTIONS`, `SANDBOX_ENDED`; the signal's reason.
   * @example
   * await vm.files.write("src/config.json", JSON.stringify(config));
   */
  async write(path: string, content: string | Uint8Array, options: SandboxWriteOptions = {}): Promise<void> {
    const { mode = DEFAULT_MODE, signal } = options;
    if (!Number.isInteger(mode) || mode < 0 || mode > MAX_MODE) {
      throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected permissions from 0 to 0o7777, got ${mode}`);
    }
    const argv = ["/bin/sh", "-c", WRITE, "sh", named(path), mode.toString(8)];
    await this.#run(argv, { input: Buffer.from(content), signal });
  }

  /**
   * Copies a file or a directory of the host into the sandbox: all of it, or nothing. It belongs to root there.
   *
   * @param request - `from`, on the host; `to`, or below that if it is a directory; a signal that calls it off.
   * @throws {SandboxError} `SANDBOX_FILE`, also for a directory in the place of one that is not empty; `SANDBOX_MISSING_TOOLS`
   *   without tar, `SANDBOX_ENDED`; the signal's reason.
   * @example
   * await vm.files.copyIn({ from: "fixtures", to: "/srv/fixtures" });
   */
  async copyIn(request: SandboxCopyRequest): Promise<void> {
    await copyIn(this.#spawn, request);
  }

  /**
   * Copies a file or a directory of the sandbox to the host: all of it, or nothing. Only files, directories and links come
   * over, without owners and special permissions.
   *
   * @param request - `from`, inside; `to`, or below that if it is a directory; a signal that calls it off.
   * @throws As {@link SandboxFiles.copyIn}.
   */
  async copyOut(request: SandboxCopyRequest): Promise<void> {
    await copyOut(this.#spawn, request);
  }

  async #run(argv: readonly string[], options: RunOptions): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const { exitCode, signal, stdout, stderr } = await runProgram(await this.#spawn(argv), options);
    if (exitCode === 0) return stdout;
    const said = stderr.toString().trim().split("\n").at(-1) || (signal ?? `exit code ${exitCode}`);
    throw new SandboxError("SANDBOX_FILE", `expected to get at a file of the sandbox, got: ${said}`);
  }
}

function named(path: string): string {
  if (path !== "" && !path.includes("\0")) return path;
  throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected the path of a file, got ${JSON.stringify(path)}`);
}
