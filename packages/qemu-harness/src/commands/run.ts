import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type CommandIo, UsageError, writeJson } from "@leveret/command";
import { InvalidArgumentError } from "commander";
import type { AcceleratorKind } from "../accelerator.ts";
import type { ConsoleMatch } from "../console.ts";
import { type MachineDescription, resolveMachine } from "../description.ts";
import { QemuError } from "../errors.ts";
import type { Machine, MachineExit } from "../machine.ts";
import { planMachine } from "../plan.ts";
import { startMachine } from "../start.ts";
import { renderTimelineSvg } from "../timeline/svg.ts";
import { writeOutput } from "./write-output.ts";

/** Flags of `qemu-harness run`. */
export interface RunFlags {
  readonly until?: string;
  /** limit in `milliseconds` */
  readonly timeout?: number;
  readonly accelerator: AcceleratorKind | "auto";
  readonly plan?: boolean;
  /** SVG file to write */
  readonly timeline?: string;
  readonly json?: boolean;
}

/** Reads a number of seconds as milliseconds. */
export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 86_400))
    throw new InvalidArgumentError("expected seconds, more than 0, at most 86400");
  return Math.ceil(seconds * 1000);
}

/** `qemu-harness run` */
export async function run(path: string, flags: RunFlags, io: CommandIo): Promise<void> {
  const pattern = flags.until === undefined ? undefined : parsePattern(flags.until, "--until");
  const file = resolve(io.cwd, path);
  const description = await readDescription(file);
  const start = { env: io.env, cwd: dirname(file), signal: io.signal, accelerator: flags.accelerator };
  if (flags.plan === true) {
    const plan = await planMachine(description, start);
    if (flags.json === true) writeJson(io, { kind: "qemu-harness.plan", version: 1, ...plan });
    else io.stdout.write(`${plan.commandLine}\n`);
    return;
  }
  const onConsole = flags.json === true ? undefined : showConsole(io, description);
  await using machine = await startMachine(description, { ...start, onConsole });
  const { match, exit } = await followMachine(machine, pattern, flags.timeout).finally(async () => {
    // A boot that never gets there is the one to look at.
    if (flags.timeline === undefined) return;
    await writeOutput(resolve(io.cwd, flags.timeline), Buffer.from(renderTimelineSvg(machine.timeline())));
  });
  if (flags.json === true) {
    const { accelerator, commandLine, serial } = machine;
    writeJson(io, {
      kind: "qemu-harness.run",
      version: 1,
      accelerator,
      commandLine,
      match: match ?? null,
      exit,
      console: serial.text,
      ...(flags.timeline === undefined ? {} : { timeline: machine.timeline() }),
    });
  }
}

/** Shows a machine's first console. */
export function showConsole(
  io: CommandIo,
  { consoles }: Pick<MachineDescription, "consoles">,
): (name: string, chunk: Uint8Array) => void {
  const decoder = new TextDecoder();
  const first = consoles?.[0]?.name ?? "serial0";
  return (name, chunk) => {
    if (name === first) io.stdout.write(decoder.decode(chunk, { stream: true }));
  };
}

/** Waits for a machine to say something, or to power itself off. */
export async function followMachine(
  machine: Machine,
  pattern: RegExp | undefined,
  timeoutMs: number | undefined,
): Promise<{ match?: ConsoleMatch; exit: MachineExit }> {
  const match =
    pattern && (await machine.serial.waitFor(pattern, { timeoutMs: timeoutMs ?? Number.POSITIVE_INFINITY }));
  const exit = match === undefined ? await machine.waitForExit({ timeoutMs }) : await machine.quit();
  if (exit.exitCode !== 0) {
    const how = exit.signal ?? `exit code ${exit.exitCode}`;
    throw new QemuError("QEMU_EXITED", `expected a machine that powers itself off, got its end with ${how}`, exit);
  }
  return { ...(match === undefined ? {} : { match }), exit };
}

/** Reads a regular expression. */
export function parsePattern(source: string, flag: string): RegExp {
  try {
    return new RegExp(source, "m");
  } catch (error) {
    throw new UsageError(
      `${flag}: expected a regular expression, got ${error instanceof Error ? error.message : source}`,
    );
  }
}

/** Reads and checks a file with a machine description. */
export async function readDescription(path: string): Promise<MachineDescription> {
  let description: MachineDescription;
  try {
    description = JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_BAD_OPTIONS", `expected a JSON file with a machine description, got: ${reason}`, {
      path,
      cause,
    });
  }
  resolveMachine(description);
  return description;
}
