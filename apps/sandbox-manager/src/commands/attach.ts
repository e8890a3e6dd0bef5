import { constants } from "node:os";
import { pipeline } from "node:stream/promises";
import type { CommandIo } from "@leveret/command";
import type { SandboxExit, SandboxProcess } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";
import type { Sandbox } from "../sandbox.ts";
import { placeInside } from "./find.ts";

/**
 * Runs a program in a sandbox as if it ran here: in the same directory of the project, with this terminal when there is
 * one, and with pipes otherwise.
 *
 * @returns What a shell would say of how it ended.
 */
export async function attach(sandbox: Sandbox, argv: readonly string[], io: CommandIo): Promise<number> {
  const { stdin, stdout, stderr } = process;
  const hasTerminal = stdin.isTTY && stdout.isTTY;
  const terminal = hasTerminal ? { rows: stdout.rows, columns: stdout.columns } : undefined;
  const term = io.env.TERM;
  const env = hasTerminal && term !== undefined ? { TERM: term } : {};
  const program = await sandbox.spawn(argv, { cwd: await placeInside(sandbox, io), terminal, env });
  const resize = (): void => program.resize(stdout.rows, stdout.columns);
  const abort = (): void => program.kill("SIGTERM");
  io.signal.addEventListener("abort", abort, { once: true });
  if (hasTerminal) {
    stdin.setRawMode(true);
    stdout.on("resize", resize);
  }
  stdin.pipe(program.stdin);
  try {
    const copies = [pipeline(program.stdout, stdout, { end: false }), pipeline(program.stderr, stderr, { end: false })];
    await Promise.all(copies);
    return exitCodeOf(await ended(program));
  } finally {
    io.signal.removeEventListener("abort", abort);
    stdin.unpipe(program.stdin);
    // Nothing more is read, so nothing keeps this process alive.
    stdin.destroy();
    if (hasTerminal) {
      stdin.setRawMode(false);
      stdout.removeListener("resize", resize);
    }
  }
}

async function ended(program: SandboxProcess): Promise<SandboxExit> {
  try {
    return await program.exit;
  } catch (error) {
    if (error instanceof SandboxError && error.code === "SANDBOX_ENDED") process.stderr.write("\n");
    throw error;
  }
}

function exitCodeOf({ exitCode, signal }: SandboxExit): number {
  if (signal === undefined) return exitCode ?? 1;
  return 128 + (constants.signals[signal as NodeJS.Signals] ?? 0);
}
