import { resolve } from "node:path";
import { type CommandIo, formatDuration, style, table, UsageError, writeJson } from "@leveret/command";
import { OsBuilderError } from "../errors.ts";
import { type BootResult, bootImage } from "../machine/boot.ts";
import { buildProjectImage, stateDirectory } from "../pipeline.ts";
import { withProgress } from "./shared.ts";

interface BootFlags {
  readonly output?: string;
  readonly serial?: true;
  readonly timeout: string;
  readonly json?: true;
}

export async function boot(path: string, flags: BootFlags, io: CommandIo): Promise<void> {
  const timeoutSeconds = Number(flags.timeout);
  if (!(timeoutSeconds > 0)) throw new UsageError(`expected a number of seconds, got --timeout ${flags.timeout}`);
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
  print(result, flags, io);
  const bad = result.checks.filter(({ ok }) => !ok).map(({ name }) => name);
  if (bad.length > 0) {
    throw new OsBuilderError("OS_BOOT_UNVERIFIED", `expected everything to be verified, got: ${bad.join(", ")}`, {
      hint: "leveret-os boot --serial shows the console",
    });
  }
}

function print(result: BootResult, flags: BootFlags, io: CommandIo): void {
  const { checks, report, bootMs, accelerator } = result;
  if (flags.json) {
    writeJson(io, {
      kind: "os-boot",
      version: 1,
      bootMs,
      accelerator,
      checks,
      report: Object.fromEntries(report),
    });
    return;
  }
  const how = accelerator === "tcg" ? "emulated" : `with ${accelerator}`;
  const rows = checks.map(({ name, ok, found }) => [ok ? "✓" : "✗", name, found]);
  const coloured = table(rows)
    .split("\n")
    .map((line) => style(io.stdout, io.env, line.startsWith("✓") ? "green" : "red", line.slice(0, 1)) + line.slice(1));
  io.stdout.write(`Read inside of the machine, ${formatDuration(bootMs)} after power-on (${how}):\n`);
  io.stdout.write(`${coloured.map((line) => `  ${line}`).join("\n")}\n`);
}
