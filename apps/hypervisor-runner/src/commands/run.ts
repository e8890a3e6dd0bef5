import { resolve } from "node:path";
import { type CommandIo, type ExitCodes, UsageError, writeJsonLine } from "@leveret/command";
import { type Guest, type GuestDescription, type GuestStop, startGuest } from "@leveret/vmm-native";
import { connectKeyboard } from "../keyboard.ts";

/** Flags of `leveret-hv run`. */
interface RunFlags {
  readonly kernel: string;
  readonly initrd?: string;
  readonly cmdline: string;
  readonly cpus: string;
  readonly memory: string;
  readonly disk: readonly string[];
  readonly net?: "user" | "isolated";
  readonly forward: readonly string[];
  readonly restart?: true;
  readonly timeout?: string;
  readonly json?: true;
}

/** How guests end that meant to. */
const DELIBERATE: readonly GuestStop["reason"][] = ["power-off", "reset"];

/** `leveret-hv run` */
export async function run(flags: RunFlags, io: CommandIo, codes: ExitCodes): Promise<void> {
  const description = describe(flags, io.cwd);
  const timeoutMs = flags.timeout === undefined ? undefined : parseNumber("--timeout", flags.timeout, "seconds") * 1000;
  const decoder = new TextDecoder();
  const say = (event: string, facts: object): void => {
    if (flags.json === true) writeJsonLine(io, { kind: "leveret-hv.event", version: 1, event, ...facts });
  };
  const onConsole = (chunk: Uint8Array): void => {
    const text = decoder.decode(chunk, { stream: true });
    if (flags.json === true) say("console", { text });
    else io.stdout.write(text);
  };
  await using guest = await startGuest(description, { env: io.env, signal: io.signal, onConsole });
  say("running", { commandLine: guest.commandLine });
  const stop = await follow(guest, timeoutMs, io);
  if (stop === undefined) return say("ended", { by: "keyboard" });
  say("stopped", { ...stop });
  if (DELIBERATE.includes(stop.reason)) return;
  if (flags.json !== true) io.stderr.write(`the guest stopped: ${stop.message}\n`);
  codes.done = 1;
}

/** Waits for the guest's end; undefined when the person at the terminal asked for it. */
async function follow(guest: Guest, timeoutMs: number | undefined, io: CommandIo): Promise<GuestStop | undefined> {
  const keyboard = connectKeyboard(guest.console, io);
  try {
    const limit = { timeoutMs: timeoutMs ?? Number.POSITIVE_INFINITY, signal: io.signal };
    return await Promise.race([guest.waitForStop(limit), keyboard.escaped]);
  } finally {
    keyboard.close();
  }
}

function describe(flags: RunFlags, cwd: string): GuestDescription {
  const { initrd, net, forward } = flags;
  if (forward.length > 0 && net === undefined) throw new UsageError("--forward: expected --net with it, got none");
  return {
    kernelPath: resolve(cwd, flags.kernel),
    ...(initrd === undefined ? {} : { initrdPath: resolve(cwd, initrd) }),
    commandLine: flags.cmdline,
    cpus: parseNumber("--cpus", flags.cpus, "processors"),
    memoryMiB: parseMemory(flags.memory),
    disks: flags.disk.map((disk) => parseDisk(disk, cwd)),
    networks:
      net === undefined ? [] : [{ type: "user", isolated: net === "isolated", forwards: forward.map(parseForward) }],
    onReset: flags.restart === true ? "restart" : "stop",
  };
}

function parseDisk(text: string, cwd: string): NonNullable<GuestDescription["disks"]>[number] {
  const file = text.replace(/:writable$/, "");
  return {
    path: resolve(cwd, file),
    // Not by what is in it: a guest writes what it likes to a raw disk.
    format: file.endsWith(".qcow2") ? "qcow2" : "raw",
    access: file === text ? "throw-away" : "writable",
  };
}

function parseForward(text: string): { hostPort: number; guestPort: number } {
  const [, host, guest] = /^(\d{1,5}):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || guest === undefined)
    throw new UsageError(`--forward: expected two ports such as 8080:80, got ${JSON.stringify(text)}`);
  return { hostPort: Number(host), guestPort: Number(guest) };
}

function parseMemory(text: string): number {
  const [, digits, unit] = /^(\d{1,7})([MG]?)$/.exec(text) ?? [];
  if (digits === undefined)
    throw new UsageError(`--memory: expected a size such as 512M or 2G, got ${JSON.stringify(text)}`);
  return Number(digits) * (unit === "G" ? 1024 : 1);
}

function parseNumber(flag: string, text: string, what: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new UsageError(`${flag}: expected a number of ${what}, got ${JSON.stringify(text)}`);
}
