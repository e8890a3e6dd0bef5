import { execFile } from "node:child_process";
import { constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ConsoleStream } from "../console.ts";
import { QemuError } from "../errors.ts";
import { findProgram } from "../qemu.ts";
import { closeAll } from "./machine-files.ts";

/**
 * Pipes to the consoles of a machine.
 *
 * A UART writes byte by byte. A socket holds about 280 such writes, whatever its size, and then the guest waits, and
 * gives up: firmware with an error, kernels with lost text. A pipe joins them, and holds 64 KiB.
 */
export interface ConsolePipes {
  /** descriptor of the directory in which QEMU finds `NAME.in` and `NAME.out` */
  readonly directory: number;
  /** this process's ends, by the console's name */
  readonly streams: ReadonlyMap<string, ConsoleStream>;
  /** To be called when QEMU has opened its ends, or never will: nothing has a name any more. Idempotent. */
  readonly hide: () => void;
  /** Closes this process's ends. Idempotent. */
  readonly destroy: () => void;
}

const { O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } = constants;
const runFile = promisify(execFile);

/**
 * Makes pipes, which have names in a directory of their own until QEMU has opened them: of all that QEMU connects a
 * console with, only sockets can be inherited in both directions.
 *
 * @param names - Names of the consoles.
 * @throws {QemuError} `QEMU_TOOL_NOT_FOUND`, `QEMU_START_FAILED` where no pipe can be made.
 */
export async function createConsolePipes(
  names: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<ConsolePipes> {
  const mkfifo = await findProgram("mkfifo", env);
  if (mkfifo === undefined) {
    throw new QemuError("QEMU_TOOL_NOT_FOUND", "expected the program mkfifo in PATH, got none", {
      hint: "it is part of coreutils",
    });
  }
  const path = mkdtempSync(join(tmpdir(), ".qemu-harness-"));
  // A pipe whose last writer is gone has ended: until QEMU has opened its end, this process keeps both.
  const kept: number[] = [];
  const streams = new Map<string, ConsoleStream>();
  const destroy = (): void => {
    for (const { input, output } of streams.values()) {
      input.destroy();
      output.destroy();
    }
  };
  const hide = (): void => {
    closeAll(kept.splice(0));
    rmSync(path, { recursive: true, force: true });
  };
  const open = (name: string, flags: number): number => openSync(join(path, name), flags | O_NONBLOCK);
  try {
    await runFile(mkfifo, ["--mode=600", ...names.flatMap((name) => [`${name}.in`, `${name}.out`])], { cwd: path });
    for (const name of names) {
      kept.push(open(`${name}.in`, O_RDWR), open(`${name}.out`, O_RDWR));
      const output = new Socket({ fd: open(`${name}.out`, O_RDONLY), readable: true, writable: false });
      const input = new Socket({ fd: open(`${name}.in`, O_WRONLY), readable: false, writable: true });
      streams.set(name, { input, output });
    }
    const directory = openSync(path, O_RDONLY);
    kept.push(directory);
    return { directory, streams, hide, destroy };
  } catch (cause) {
    destroy();
    hide();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_START_FAILED", `expected pipes for consoles, got: ${reason}`, { path, cause });
  }
}
