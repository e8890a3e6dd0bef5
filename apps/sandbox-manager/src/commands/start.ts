import { resolve } from "node:path";
import { type CommandIo, UsageError, withProgress, writeJson } from "@leveret/command";
import { startSandbox } from "../start.ts";
import { attach } from "./attach.ts";

interface StartFlags {
  readonly new?: true;
  readonly isolated?: true;
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly allowPreset?: readonly string[];
  readonly rules?: readonly string[];
  readonly secret?: readonly string[];
  readonly learn?: true;
  readonly image?: string;
  readonly memory?: string;
  readonly cpus?: string;
  readonly shell: boolean;
  readonly json?: true;
}

/** @returns The exit code of the shell, or 0 when none was started. */
export async function start(name: string | undefined, flags: StartFlags, io: CommandIo): Promise<number> {
  const sandbox = await withProgress(
    io,
    (onProgress) =>
      startSandbox({
        directory: io.cwd,
        env: io.env,
        signal: io.signal,
        name,
        another: flags.new,
        workspace: flags.isolated ? "isolated" : undefined,
        network: {
          allow: [...(flags.allow ?? []), ...(flags.learn ? ["*"] : [])],
          deny: flags.deny,
          presets: flags.allowPreset,
          secrets: flags.secret,
          files: flags.rules?.map((file) => resolve(io.cwd, file)),
        },
        image: flags.image === undefined ? undefined : resolve(io.cwd, flags.image),
        memoryMiB: wholeNumber(flags.memory, "MiB"),
        cpus: wholeNumber(flags.cpus, "processors"),
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

function wholeNumber(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new UsageError(`expected a number of ${what}, got ${JSON.stringify(text)}`);
}
