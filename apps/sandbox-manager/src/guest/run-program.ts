import type { SandboxExit, SandboxProcess } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";

/** Most that is collected of a program's output unless somebody says otherwise: 64 MiB. */
export const DEFAULT_MAX_OUTPUT_BYTES: number = 64 * 1024 * 1024;

/** How a program is run to its end. */
export interface RunOptions {
  /** for its standard input, default nothing */
  readonly input?: Uint8Array | undefined;
  /** most that it may write on both outputs together, in `bytes`, default {@link DEFAULT_MAX_OUTPUT_BYTES} */
  readonly maxOutputBytes?: number | undefined;
  /** ends it */
  readonly signal?: AbortSignal | undefined;
}

/** A program that has run to its end. */
export interface Ran extends SandboxExit {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/**
 * Gives a program its input, and waits until it has ended.
 *
 * @throws {SandboxError} `SANDBOX_OUTPUT_LIMIT`, `SANDBOX_ENDED`; the signal's reason.
 */
export async function runProgram(program: SandboxProcess, options: RunOptions = {}): Promise<Ran> {
  const { input, maxOutputBytes = DEFAULT_MAX_OUTPUT_BYTES, signal } = options;
  signal?.addEventListener("abort", program.close, { once: true });
  let room = maxOutputBytes;
  const collect = async (output: AsyncIterable<Uint8Array>): Promise<Buffer> => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of output) {
      room -= chunk.byteLength;
      if (room < 0) {
        throw new SandboxError("SANDBOX_OUTPUT_LIMIT", `expected at most ${maxOutputBytes} bytes of output, got more`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  };
  try {
    signal?.throwIfAborted();
    program.stdin.end(input);
    const [stdout, stderr] = await Promise.all([collect(program.stdout), collect(program.stderr)]);
    return { ...(await program.exit), stdout, stderr };
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", program.close);
    program.close();
  }
}
