import { resolve } from "node:path";
import { type CommandIo, formatDuration, markedLines, UsageError, withProgress, writeJson } from "@leveret/command";
import { type BootResult, bootImage } from "../machine/boot.ts";
import { assertVerified } from "../machine/report.ts";
import { buildProjectImage, stateDirectory } from "../pipeline.ts";

interface BootFlags {
  readonly output?: string;
  readonly serial?: true;
  readonly timeout: string;
  readonly json?: true;
}

// A day; timers of Node take 24 of them.
const MAX_TIMEOUT_SECONDS = 86_400;

/** @returns Whether the machine verified everything. */
export async function boot(path: string, flags: BootFlags, io: CommandIo): Promise<boolean> {
  const timeoutSeconds = Number(flags.timeout);
  if (!(timeoutSeconds > 0 && timeoutSeconds <= MAX_TIMEOUT_SECONDS)) {
    throw new UsageError(`expected 1 to ${MAX_TIMEOUT_SECONDS} seconds, got --timeout ${flags.timeout}`);
  }
  const { project, image } = await withProgress(io, (onProgress) =>
    buildProjectImage(resolve(io.cwd, path), {
      env: io.env,
      outputDirectory: flags.output === undefined ? undefined : resolve(io.cwd, flags.output),
      signal: io.signal,
      onProgress,
    }),
  );
  const result = await withProgress(io, (onProgress) => {
    if (!flags.serial) onProgress({ step: "booting", item: image.disk });
    return bootImage(project, image, {
      env: io.env,
      stateDirectory: stateDirectory(project),
      timeoutMs: timeoutSeconds * 1000,
      signal: io.signal,
      ...(flags.serial ? { onSerial: (chunk: Uint8Array) => io.stderr.write(Buffer.from(chunk).toString()) } : {}),
    });
  });
  if (flags.json) {
    const { checks, bootMs, accelerator } = result;
    const ok = checks.every((check) => check.ok);
    const report = Object.fromEntries(result.report);
    writeJson(io, { kind: "os-boot", version: 1, ok, bootMs, accelerator, checks, report });
    return ok;
  }
  print(result, io);
  assertVerified(result.checks);
  return true;
}

function print({ checks, bootMs, accelerator }: BootResult, io: CommandIo): void {
  const how = accelerator === "tcg" ? "emulated" : `with ${accelerator}`;
  const rows = checks.map(({ name, ok, found }) => [ok ? "✓" : "✗", name, found]);
  io.stdout.write(`Read inside of the machine, ${formatDuration(bootMs)} after power-on (${how}):\n`);
  for (const line of markedLines(rows, io)) io.stdout.write(`  ${line}\n`);
}
