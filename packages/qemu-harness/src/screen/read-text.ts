import { QemuError } from "../errors.ts";
import type { WaitOptions } from "../internal/wait.ts";
import { findProgram } from "../qemu.ts";

const PROGRAM = "tesseract";

/** Reads what a picture says, with the tesseract of PATH. */
export type ReadText = (picture: Uint8Array, options: WaitOptions) => Promise<string>;

/**
 * Makes the reader.
 *
 * @throws {QemuError} From the reader: `QEMU_TOOL_NOT_FOUND`, and `QEMU_OCR_FAILED` with what the program said.
 */
export function textReader(env: Readonly<Record<string, string | undefined>>): ReadText {
  return async (picture, { timeoutMs, signal }) => {
    const program = await findProgram(PROGRAM, env);
    if (program === undefined) {
      throw new QemuError("QEMU_TOOL_NOT_FOUND", `expected ${PROGRAM} in PATH, got none`, {
        hint: "text on the screen is read with it (Debian: apt install tesseract-ocr)",
      });
    }
    // One block of text, in letters of a size that `forReading` makes; one thread, for others work here too.
    // Most machines are never read from, and start sooner without it.
    const { execa } = await import("execa");
    const answer = await execa(program, ["stdin", "stdout", "--psm", "6", "--dpi", "200"], {
      input: picture,
      env: { OMP_THREAD_LIMIT: "1" },
      reject: false,
      ...(timeoutMs !== undefined && { timeout: timeoutMs }),
      ...(signal !== undefined && { cancelSignal: signal }),
    });
    if (!answer.failed) return answer.stdout;
    const { exitCode, stderr, timedOut, isCanceled } = answer;
    if (isCanceled) throw new QemuError("QEMU_ABORTED", "called off by its abort signal", { cause: signal?.reason });
    const reason = timedOut ? `no answer within ${timeoutMs} ms` : stderr.slice(-4096) || answer.shortMessage;
    throw new QemuError("QEMU_OCR_FAILED", `expected text from ${PROGRAM}, got: ${reason}`, {
      exitCode,
      path: program,
    });
  };
}
