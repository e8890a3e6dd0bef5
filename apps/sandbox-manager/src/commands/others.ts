import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type CommandIo, escapeText, table, UsageError, writeJson } from "@leveret/command";
import { expectNoChanges } from "../changes/unapplied.ts";
import { SandboxError } from "../errors.ts";
import { listSandboxes } from "../find.ts";
import { nameOf, numberOf } from "../names.ts";
import { openPlaces } from "../places.ts";
import { CONSOLE_FILE, LOG_FILE } from "../transcript.ts";
import { attach } from "./attach.ts";
import { find } from "./find.ts";

const MAX_PORT = 0xffff;
const SECOND_MS = 1000;
const MINUTE_S = 60;
const HOUR_S = 3600;

export async function exec(name: string | undefined, argv: readonly string[], io: CommandIo): Promise<number> {
  return attach(await find(name, io), argv, io);
}

export async function list(flags: { json?: true }, io: CommandIo): Promise<void> {
  const sandboxes = await listSandboxes({ env: io.env });
  if (flags.json) {
    writeJson(io, { kind: "sandboxes", version: 1, sandboxes: sandboxes.map(({ state }) => state) });
    return;
  }
  if (sandboxes.length === 0) {
    io.stdout.write("no sandbox runs; leveret-sandbox start starts one for this directory\n");
    return;
  }
  const rows = sandboxes.map(({ state: { name, address, directory, startedAt } }) => [
    name,
    address,
    age(Date.now() - startedAt),
    directory,
  ]);
  io.stdout.write(`${table([["NAME", "ADDRESS", "UP", "PROJECT"], ...rows])}\n`);
}

export async function stop(
  name: string | undefined,
  flags: { json?: true; discard?: true },
  io: CommandIo,
): Promise<void> {
  const sandbox = await find(name, io);
  if (!flags.discard) await expectNoChanges(sandbox);
  await sandbox.stop();
  if (flags.json) writeJson(io, { kind: "sandbox-stopped", version: 1, name: sandbox.name });
  else io.stdout.write(`${sandbox.name} has ended\n`);
}

export async function ports(name: string | undefined, flags: { json?: true }, io: CommandIo): Promise<void> {
  const sandbox = await find(name, io);
  const open = await sandbox.ports();
  if (flags.json) {
    const list = open.map((port) => ({ port, url: sandbox.url(port) }));
    writeJson(io, { kind: "sandbox-ports", version: 1, name: sandbox.name, ports: list });
  } else if (open.length === 0) io.stdout.write(`nothing listens in ${sandbox.name}\n`);
  else io.stdout.write(`${table([["PORT", "URL"], ...open.map((port) => [`${port}`, sandbox.url(port)])])}\n`);
}

export async function logs(name: string | undefined, io: CommandIo): Promise<void> {
  const which = name === undefined ? (await find(name, io)).name : nameOf(numberOf(name));
  const { machines } = await openPlaces(io.env);
  const read = (file: string): Promise<string> => readFile(join(machines, which, file), "utf8").catch(() => "");
  const [console, log] = await Promise.all([read(CONSOLE_FILE), read(LOG_FILE)]);
  if (console === "" && log === "") {
    throw new SandboxError("SANDBOX_NOT_FOUND", `expected something that ${which} has said, got nothing`, {
      sandbox: which,
    });
  }
  // A guest's console may say anything, to a terminal too.
  io.stdout.write(escapeText(console.replaceAll("\r\n", "\n")));
  io.stdout.write(log);
}

export async function url(port: string, flags: { name?: string }, io: CommandIo): Promise<void> {
  const number = /^[1-9]\d{0,4}$/.test(port) ? Number(port) : 0;
  if (number < 1 || number > MAX_PORT) throw new UsageError(`expected a port, got ${JSON.stringify(port)}`);
  io.stdout.write(`${(await find(flags.name, io)).url(number)}\n`);
}

/** What nobody has brought back would be gone. */
function age(ms: number): string {
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < MINUTE_S) return `${seconds} s`;
  if (seconds < HOUR_S) return `${Math.floor(seconds / MINUTE_S)} min`;
  return `${Math.floor(seconds / HOUR_S)} h ${Math.floor((seconds % HOUR_S) / MINUTE_S)} min`;
}
