import { dirname, resolve } from "node:path";
import { type CommandIo, formatBytes, writeJson } from "@leveret/command";
import type { AcceleratorKind } from "../accelerator.ts";
import { startMachine } from "../start.ts";
import { parsePattern, readDescription } from "./run.ts";
import { writeOutput } from "./write-output.ts";

/** Flags of `qemu-harness screenshot`. */
export interface ScreenshotFlags {
  readonly until?: string;
  readonly text?: string;
  /** limit in `milliseconds` */
  readonly timeout?: number;
  readonly accelerator: AcceleratorKind | "auto";
  readonly json?: boolean;
}

const DEFAULT_TIMEOUT_MS = 120_000;

/** `qemu-harness screenshot` */
export async function screenshot(path: string, picture: string, flags: ScreenshotFlags, io: CommandIo): Promise<void> {
  const onConsole = flags.until === undefined ? undefined : parsePattern(flags.until, "--until");
  const onScreen = flags.text === undefined ? undefined : parsePattern(flags.text, "--text");
  const file = resolve(io.cwd, path);
  const { graphics = {}, ...description } = await readDescription(file);
  const start = { env: io.env, cwd: dirname(file), signal: io.signal, accelerator: flags.accelerator };
  await using machine = await startMachine({ ...description, graphics }, start);
  const limits = { timeoutMs: flags.timeout ?? DEFAULT_TIMEOUT_MS, signal: io.signal };
  if (onConsole !== undefined) await machine.serial.waitFor(onConsole, limits);
  const text = onScreen === undefined ? undefined : await machine.screen.waitForText(onScreen, limits);
  const png = await machine.screen.screenshot(limits);
  await writeOutput(resolve(io.cwd, picture), png);
  const sizeBytes = png.byteLength;
  if (flags.json === true) writeJson(io, { kind: "qemu-harness.screenshot", version: 1, picture, sizeBytes, text });
  else io.stdout.write(`${picture}: ${formatBytes(sizeBytes)}\n`);
}
