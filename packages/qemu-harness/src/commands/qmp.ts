import { dirname, resolve } from "node:path";
import { type CommandIo, escapeName, UsageError, writeJson } from "@leveret/command";
import type { AcceleratorKind } from "../accelerator.ts";
import { QemuError } from "../errors.ts";
import { describeUses, renderShape } from "../qmp/describe.ts";
import { parseQmpJson } from "../qmp/json.ts";
import { knownSchema, type QmpSchema, type VersionSet } from "../qmp/schema.ts";
import { renderVersions } from "../qmp/versions.ts";
import { startMachine } from "../start.ts";
import { parsePattern, readDescription } from "./run.ts";

/** Flags of `qemu-harness qmp`. */
export interface QmpFlags {
  readonly schema?: boolean;
  readonly until?: string;
  /** limit in `milliseconds` */
  readonly timeout?: number;
  readonly accelerator: AcceleratorKind | "auto";
  readonly json?: boolean;
}

/** `qemu-harness qmp` */
export async function qmp(words: readonly string[], flags: QmpFlags, io: CommandIo): Promise<void> {
  if (flags.schema === true) return showSchema(words, flags, io);
  const [path, command, text = "{}", ...rest] = words;
  if (path === undefined || command === undefined || rest.length > 0) {
    throw new UsageError("expected a description, a command and at most its arguments as JSON; or --schema");
  }
  const pattern = flags.until === undefined ? undefined : parsePattern(flags.until, "--until");
  const args = parseArguments(text);
  const file = resolve(io.cwd, path);
  const description = await readDescription(file);
  const { env, signal } = io;
  const { accelerator, timeout: timeoutMs } = flags;
  await using machine = await startMachine(description, { env, cwd: dirname(file), signal, accelerator });
  if (pattern !== undefined) await machine.serial.waitFor(pattern, { timeoutMs, signal });
  const returned = await machine.qmp.execute(command, args, { timeoutMs, signal });
  const { version } = machine.qmp.greeting;
  if (flags.json === true) {
    writeJson(io, { kind: "qemu-harness.qmp", version: 1, qemu: version, command, arguments: args, return: returned });
  } else {
    io.stdout.write(`${renderReturn(returned)}\n`);
  }
}

/** An answer for people: text as it is, all else as JSON. What would steer a terminal is written out. */
function renderReturn(returned: unknown): string {
  const digits = (_name: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);
  const text = typeof returned === "string" ? returned.trimEnd() : JSON.stringify(returned, digits, 2);
  return text.split(/\r?\n/).map(escapeName).join("\n");
}

function parseArguments(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseQmpJson(text);
  } catch (error) {
    throw new UsageError(`expected arguments as JSON, got ${error instanceof Error ? error.message : text}`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new UsageError(`expected arguments as a JSON object, got ${text}`);
}

async function showSchema([name, ...path]: readonly string[], flags: QmpFlags, io: CommandIo): Promise<void> {
  const schema = await knownSchema();
  if (name === undefined) return listSchema(schema, flags, io);
  const command = schema.commands.get(name);
  const event = schema.events.get(name);
  const { versions } = schema;
  if (command !== undefined) {
    const takes = describeUses(schema, command.arguments, path);
    const returns = describeUses(schema, command.returns, path);
    if (flags.json === true) {
      const facts = { outOfBand: command.outOfBand !== 0, deprecated: command.deprecated !== 0 };
      const document = { kind: "qemu-harness.qmp-schema", version: 1, versions, command: name } as const;
      writeJson(io, { ...document, in: namesOf(schema, command.versions), ...facts, arguments: takes, returns });
      return;
    }
    const notes = [
      ...noteOf(schema, command.versions),
      ...(command.outOfBand === 0 ? [] : ["may run out of band"]),
      ...(command.deprecated === 0 ? [] : [`deprecated in QEMU ${renderVersions(command.deprecated, schema)}`]),
      ...(command.unstable === 0 ? [] : ["unstable"]),
      ...(command.isOpen ? ["takes more than QEMU says here"] : []),
    ];
    const lines = ["takes", ...renderShape(takes, "  "), "returns", ...renderShape(returns, "  ")];
    io.stdout.write(`${[`${name}${notes.length === 0 ? "" : `  (${notes.join("; ")})`}`, ...lines].join("\n")}\n`);
    return;
  }
  if (event === undefined) throw unknownName(schema, name);
  const data = describeUses(schema, event.data, path);
  if (flags.json === true) {
    const where = namesOf(schema, event.versions);
    writeJson(io, { kind: "qemu-harness.qmp-schema", version: 1, versions, event: name, in: where, data });
    return;
  }
  const note = noteOf(schema, event.versions).map((text) => `  (${text})`);
  io.stdout.write(`${[`event ${name}${note.join("")}`, ...renderShape(data, "  ")].join("\n")}\n`);
}

function listSchema(schema: QmpSchema, flags: QmpFlags, io: CommandIo): void {
  if (flags.json === true) {
    const all = (map: ReadonlyMap<string, { readonly versions: VersionSet }>): object =>
      Object.fromEntries([...map].map(([name, { versions }]) => [name, namesOf(schema, versions)]));
    const { versions, commands, events } = schema;
    const document = { kind: "qemu-harness.qmp-schema", version: 1, versions } as const;
    writeJson(io, { ...document, commands: all(commands), events: all(events) });
    return;
  }
  for (const [name, { versions }] of [...schema.commands, ...schema.events]) {
    io.stdout.write(`${[name, ...noteOf(schema, versions).map((note) => `  (${note})`)].join("")}\n`);
  }
}

function unknownName(schema: QmpSchema, name: string): QemuError {
  const folded = fold(name);
  const near = [...schema.commands.keys(), ...schema.events.keys()].filter(
    (one) => fold(one).includes(folded) || folded.includes(fold(one)),
  );
  const known = `QEMU ${schema.versions.join(", ")}`;
  return new QemuError("QEMU_BAD_OPTIONS", `expected a command or an event of ${known}, got ${JSON.stringify(name)}`, {
    hint: near.length === 0 ? "--schema alone lists them" : `there is ${near.slice(0, 8).join(", ")}`,
  });
}

function fold(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
}

function namesOf(schema: QmpSchema, versions: VersionSet): string[] {
  return schema.versions.filter((_, index) => (versions & (1 << index)) !== 0);
}

/** Which versions have it, when not all do. */
function noteOf(schema: QmpSchema, versions: VersionSet): string[] {
  return namesOf(schema, versions).length === schema.versions.length
    ? []
    : [`QEMU ${renderVersions(versions, schema)}`];
}
