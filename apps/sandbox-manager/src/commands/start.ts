import { resolve } from "node:path";
import { type CommandIo, UsageError, withProgress, writeJson } from "@leveret/command";
import { type SandboxStartOptions, startSandbox } from "../start.ts";
import { attach } from "./attach.ts";

/** What a machine is to be like. */
export interface MachineFlags {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly allowPreset?: readonly string[];
  readonly rules?: readonly string[];
  readonly secret?: readonly string[];
  readonly learn?: true;
  readonly image?: string;
  readonly memory?: string;
  readonly cpus?: string;
}

interface StartFlags extends MachineFlags {
  readonly new?: true;
  readonly isolated?: true;
  readonly shell: boolean;
  readonly json?: true;
}

/** @returns The exit code of the shell, or 0 when none was started. */
export async function start(name: string | undefined, flags: StartFlags, io: CommandIo): Promise<number> {
  const sandbox = await withProgress(
    io,
    (onProgress) =>
      startSandbox({
        ...machineOptions(flags, io),
        signal: io.signal,
        name,
        another: flags.new,
        workspace: flags.isolated ? "isolated" : undefined,
        onProgress,
      }),
    { terminalOnly: true },
  );
  if (flags.json) {
    writeJson(io, { ...sandbox.state });
    return 0;
  }
  if (!flags.shell || !process.stdin.isTTY) {
    io.stdout.write(`${sandbox.name} ${sandbox.address}\n`);
    return 0;
  }
  io.stderr.write(`${sandbox.name} at ${sandbox.address}; "leveret-sandbox stop" ends it\n`);
  return attach(sandbox, ["/bin/bash", "-l"], io);
}

/** The machine that somebody asks for. @throws {UsageError} */
export function machineOptions(
  flags: MachineFlags,
  { cwd, env }: Pick<CommandIo, "cwd" | "env">,
): Omit<SandboxStartOptions, "directory" | "env"> & { readonly directory: string; readonly env: CommandIo["env"] } {
  return {
    directory: cwd,
    env,
    network: {
      allow: [...(flags.allow ?? []), ...(flags.learn ? ["*"] : [])],
      deny: flags.deny,
      presets: flags.allowPreset,
      secrets: flags.secret,
      files: flags.rules?.map((file) => resolve(cwd, file)),
    },
    image: flags.image === undefined ? undefined : resolve(cwd, flags.image),
    memoryMiB: wholeNumber(flags.memory, "MiB"),
    cpus: wholeNumber(flags.cpus, "processors"),
  };
}

function wholeNumber(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new UsageError(`expected a number of ${what}, got ${JSON.stringify(text)}`);
}
