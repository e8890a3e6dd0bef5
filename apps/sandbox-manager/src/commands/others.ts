import { type CommandIo, table, writeJson } from "@leveret/command";
import { findSandbox, listSandboxes, type Sandbox } from "../sandbox.ts";
import { attach } from "./attach.ts";

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

export async function stop(name: string | undefined, flags: { json?: true }, io: CommandIo): Promise<void> {
  const sandbox = await find(name, io);
  await sandbox.stop();
  if (flags.json) writeJson(io, { kind: "sandbox-stopped", version: 1, name: sandbox.name });
  else io.stdout.write(`${sandbox.name} has ended\n`);
}

export async function url(port: string, flags: { name?: string }, io: CommandIo): Promise<void> {
  io.stdout.write(`${(await find(flags.name, io)).url(Number(port))}\n`);
}

async function find(name: string | undefined, io: CommandIo): Promise<Sandbox> {
  return findSandbox(name, { directory: io.cwd, env: io.env });
}

function age(ms: number): string {
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < MINUTE_S) return `${seconds} s`;
  if (seconds < HOUR_S) return `${Math.floor(seconds / MINUTE_S)} min`;
  return `${Math.floor(seconds / HOUR_S)} h ${Math.floor((seconds % HOUR_S) / MINUTE_S)} min`;
}
