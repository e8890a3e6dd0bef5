import { lstat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import {
  type CommandIo,
  type ExitCodes,
  formatBytes,
  formatDuration,
  table,
  UsageError,
  withProgress,
  writeJson,
} from "@leveret/command";
import type { AcceleratorKind } from "../accelerator.ts";
import type { MachineDescription } from "../description.ts";
import { QemuError } from "../errors.ts";
import type { Machine } from "../machine.ts";
import { type CacheEntry, openTemplateCache } from "../snapshot/cache.ts";
import { openSnapshot, readSnapshot } from "../snapshot/open.ts";
import { startMachine } from "../start.ts";
import { followMachine, parsePattern, readDescription, showConsole } from "./run.ts";

/** Flags of `qemu-harness template make`. */
export interface MakeFlags {
  readonly until?: string;
  readonly key?: string;
  /** limit in `milliseconds` */
  readonly timeout?: number;
  readonly accelerator: AcceleratorKind | "auto";
  readonly json?: boolean;
}

/** Flags of `qemu-harness template run`. */
export interface ForkFlags {
  readonly until?: string;
  /** limit in `milliseconds` */
  readonly timeout?: number;
  readonly json?: boolean;
}

const DEFAULT_TIMEOUT_MS = 600_000;
/** How much of a template's name people see, and how little of it they have to type. */
const SHOWN_DIGITS = 12;
const PREFIX = /^[0-9a-f]{4,32}$/;

/** `qemu-harness template make` */
export async function makeTemplate(
  path: string,
  place: string | undefined,
  flags: MakeFlags,
  io: CommandIo,
): Promise<void> {
  const pattern = flags.until === undefined ? undefined : parsePattern(flags.until, "--until");
  const file = resolve(io.cwd, path);
  const description = await readDescription(file);
  if (pattern === undefined && description.agent !== true) {
    throw new UsageError("expected --until, or a machine with an agent: nothing else says when the machine is ready");
  }
  const limits = { timeoutMs: flags.timeout ?? DEFAULT_TIMEOUT_MS, signal: io.signal };
  const prepare = async (machine: Machine): Promise<void> => {
    if (pattern !== undefined) await machine.serial.waitFor(pattern, limits);
    if (description.agent === true) await machine.agent.ready(limits);
  };
  const start = { cwd: dirname(file), signal: io.signal, accelerator: flags.accelerator };
  const startedAt = Date.now();
  const made = await withProgress(
    io,
    async (progress) => {
      progress({ step: "making the template" });
      if (place !== undefined)
        return keepTemplate(description, prepare, resolve(io.cwd, place), { ...start, env: io.env });
      const cache = openTemplateCache({ env: io.env });
      const key = [flags.until ?? "", flags.key ?? ""];
      await using template = await cache.template({ description, prepare, key, ...start });
      const { id, cached } = template;
      return { id, cached, path: resolve(cache.directory, id) };
    },
    { terminalOnly: true },
  );
  const elapsedMs = Date.now() - startedAt;
  const { sizeBytes } = await readSnapshot(made.path);
  if (flags.json === true) {
    writeJson(io, { kind: "qemu-harness.template", version: 1, ...made, sizeBytes, elapsedMs });
    return;
  }
  const name = made.id?.slice(0, SHOWN_DIGITS) ?? place;
  const how = made.cached ? "was there already" : `made in ${formatDuration(elapsedMs).trim()}`;
  io.stdout.write(`${name}  ${how}, ${formatBytes(sizeBytes)}\n`);
}

async function keepTemplate(
  description: MachineDescription,
  prepare: (machine: Machine) => Promise<void>,
  path: string,
  start: Parameters<typeof startMachine>[1],
): Promise<{ id?: string; cached: boolean; path: string }> {
  if ((await lstat(path).catch(() => undefined)) !== undefined) {
    throw new QemuError("QEMU_FILE", `expected a path where nothing is yet, got ${path}`, { path });
  }
  await using machine = await startMachine({ ...description, forkable: true }, start);
  await prepare(machine);
  await using template = await machine.template();
  await template.save(path, { signal: start?.signal });
  return { cached: false, path };
}

/** `qemu-harness template list` */
export async function listTemplates(flags: { readonly json?: boolean }, io: CommandIo): Promise<void> {
  const { directory, list } = openTemplateCache({ env: io.env });
  const entries = await list();
  if (flags.json === true) {
    writeJson(io, { kind: "qemu-harness.templates", version: 1, directory, templates: entries });
    return;
  }
  if (entries.length === 0) {
    io.stdout.write(`no templates in ${directory}\n`);
    return;
  }
  const rows = entries.map(({ id, description, sizeBytes, createdAt, usedAt }) => [
    id.slice(0, SHOWN_DIGITS),
    description.name,
    formatBytes(sizeBytes),
    `made ${ago(createdAt)}`,
    `used ${ago(usedAt)}`,
  ]);
  io.stdout.write(`${table(rows)}\n`);
}

/** `qemu-harness template run` */
export async function runTemplate(
  name: string,
  words: readonly string[],
  flags: ForkFlags,
  io: CommandIo,
  codes: ExitCodes,
): Promise<void> {
  const pattern = flags.until === undefined ? undefined : parsePattern(flags.until, "--until");
  if (pattern !== undefined && words.length > 0) throw new UsageError("expected a program or --until, got both");
  const path = await findTemplate(name, io);
  await using template = await openSnapshot(path, { env: io.env, signal: io.signal });
  if (words.length > 0 && !template.description.agent) {
    const message = `expected a template with an agent to run ${words[0]}, got one without`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, { hint: 'make it of a description with "agent": true' });
  }
  const json = flags.json === true;
  const onConsole = json || words.length > 0 ? undefined : showConsole(io, template.description);
  const startedAt = performance.now();
  await using fork = await template.fork({ signal: io.signal, onConsole });
  const forkMs = Math.round(performance.now() - startedAt);
  if (words.length === 0) {
    const { match, exit } = await followMachine(fork, pattern, flags.timeout);
    if (json) {
      const console = fork.serial.text;
      writeJson(io, {
        kind: "qemu-harness.template-run",
        version: 1,
        path,
        forkMs,
        match: match ?? null,
        exit,
        console,
      });
    }
    return;
  }
  const result = await fork.agent.exec(words, { timeoutMs: flags.timeout, signal: io.signal });
  if (json) {
    writeJson(io, { kind: "qemu-harness.template-run", version: 1, path, forkMs, program: words, ...result });
  } else {
    io.stdout.write(result.stdout);
    io.stderr.write(result.stderr);
  }
  // As the program ended; one that a signal ended has none of its own.
  codes.done = result.exitCode ?? codes.failed;
}

/** `qemu-harness template remove` */
export async function removeTemplates(
  names: readonly string[],
  flags: { readonly all?: boolean; readonly json?: boolean },
  io: CommandIo,
): Promise<void> {
  if ((flags.all === true) === names.length > 0) throw new UsageError("expected names of templates, or --all");
  const cache = openTemplateCache({ env: io.env });
  const entries = await cache.list();
  const chosen = flags.all === true ? entries : names.map((name) => chooseEntry(name, entries, cache.directory));
  const removed: string[] = [];
  for (const { id } of chosen) if (await cache.remove(id)) removed.push(id);
  if (flags.json === true) writeJson(io, { kind: "qemu-harness.templates-removed", version: 1, removed });
  else for (const id of removed) io.stdout.write(`${id.slice(0, SHOWN_DIGITS)}  removed\n`);
}

/** Directory of a template: a path, or the beginning of a name in the cache. */
async function findTemplate(name: string, io: CommandIo): Promise<string> {
  const path = resolve(io.cwd, name);
  if (!PREFIX.test(name) || (await lstat(path).catch(() => undefined)) !== undefined) return path;
  const cache = openTemplateCache({ env: io.env });
  return chooseEntry(name, await cache.list(), cache.directory).path;
}

function chooseEntry(name: string, entries: readonly CacheEntry[], directory: string): CacheEntry {
  const found = PREFIX.test(name) ? entries.filter(({ id }) => id.startsWith(name)) : [];
  const [first, ...others] = found;
  if (first !== undefined && others.length === 0) return first;
  const what = first === undefined ? "none" : `${found.length}: ${found.map(({ id }) => id).join(", ")}`;
  throw new QemuError("QEMU_SNAPSHOT_NOT_FOUND", `expected one template ${name} in ${directory}, got ${what}`, {
    path: directory,
    hint: "qemu-harness template list shows what is there",
  });
}

function ago(time: Date): string {
  const seconds = Math.max(0, Math.round((Date.now() - time.getTime()) / 1000));
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}
