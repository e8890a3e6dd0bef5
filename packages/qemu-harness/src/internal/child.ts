import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { commandLine } from "../argv.ts";
import { QemuError } from "../errors.ts";
import { findProgram } from "../qemu.ts";
import { endsWithin } from "./wait.ts";

/** How a process ended. */
interface ExitStatus {
  /** exit code, absent when a signal ended it */
  readonly exitCode?: number | undefined;
  /** signal that ended it */
  readonly signal?: string | undefined;
}

/** A child process that dies with its parent. */
export interface Child {
  readonly pid: number;
  /** copy-pasteable command line, without the wrapper that ties it to its parent */
  readonly commandLine: string;
  /** resolves when the process is gone and its pipes are drained; never rejects */
  readonly ended: Promise<ExitStatus>;
  /** how it ended, once it has */
  readonly status: ExitStatus | undefined;
  /** the parent's end of the socket pair at descriptor `fd` */
  readonly pipe: (fd: number) => Duplex;
  /** last 16 KiB of its standard error */
  readonly stderrTail: () => string;
  /** sends a signal; nothing happens when the process is gone */
  readonly kill: (signal: NodeJS.Signals) => void;
  /** kills it and forgets it: this process neither waits for its end nor is kept alive by it */
  readonly abandon: () => void;
}

/** What {@link spawnChild} gives a child beside its arguments. */
export interface SpawnOptions {
  /** descriptors from 3 on: a new socket pair, an open file, or a socket of this process to hand over */
  readonly fds: readonly ("pipe" | number | Duplex)[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string | undefined;
}

const STDERR_TAIL_BYTES = 16 * 1024;
/** How long after the end of a process its pipes may stay open, for example because a descendant holds them. */
const DRAIN_TIMEOUT_MS = 2000;

/**
 * Starts a program that the kernel kills when this process ends, however it ends.
 *
 * The program leads a session of its own, so that Ctrl-C in a terminal reaches only this process, which then ends its
 * children in order.
 */
export async function spawnChild(program: string, argv: readonly string[], options: SpawnOptions): Promise<Child> {
  const setpriv = await findProgram("setpriv", options.env);
  if (setpriv === undefined) {
    throw new QemuError("QEMU_TOOL_NOT_FOUND", "expected the program setpriv in PATH, got none", {
      hint: "it is part of util-linux (Debian: apt install util-linux)",
    });
  }
  const stdio: StdioOptions = ["ignore", "ignore", "pipe", ...options.fds];
  const child = spawn(setpriv, ["--pdeathsig", "KILL", program, ...argv], {
    stdio,
    detached: true,
    // Messages are matched and shown; they must not depend on the language of the machine.
    env: { ...options.env, LC_ALL: "C" },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  return follow(child, commandLine(program, argv));
}

async function follow(child: ChildProcess, line: string): Promise<Child> {
  let stderr = "";
  let status: ExitStatus | undefined;
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL_BYTES);
  });
  // A peer that is killed resets its sockets; that it ended is reported by the process, not by them.
  for (const stream of child.stdio) stream?.on("error", () => {});

  const ended = new Promise<ExitStatus>((resolve) => {
    child.once("exit", (code, signal) => {
      const result = { exitCode: code ?? undefined, signal: signal ?? undefined };
      const finish = (): void => {
        clearTimeout(timer);
        status = result;
        for (const stream of child.stdio) stream?.destroy();
        resolve(result);
      };
      const timer = setTimeout(finish, DRAIN_TIMEOUT_MS);
      child.once("close", finish);
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => {
      reject(
        new QemuError("QEMU_START_FAILED", `expected to start a process, got: ${cause.message}`, {
          commandLine: line,
          cause,
        }),
      );
    });
  });
  return {
    pid: child.pid ?? 0,
    commandLine: line,
    ended,
    get status() {
      return status;
    },
    pipe(fd) {
      const stream = child.stdio[fd];
      if (stream === null || stream === undefined) throw new Error(`bug: descriptor ${fd} is not a pipe`);
      return stream as Duplex;
    },
    stderrTail: () => stderr.trim(),
    kill(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    },
    abandon() {
      child.kill("SIGKILL");
      for (const stream of child.stdio) stream?.destroy();
      child.unref();
    },
  };
}

/** Ends `child` by force and waits at most `timeoutMs` for it; false when the kernel would not let go of it. */
export async function killChild(child: Child, timeoutMs: number): Promise<boolean> {
  child.kill("SIGKILL");
  return endsWithin(child.ended, timeoutMs);
}
