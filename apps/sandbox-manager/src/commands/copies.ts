import { type CommandIo, escapeText, table, UsageError, writeJson } from "@leveret/command";
import { find } from "./find.ts";

interface JsonFlag {
  readonly json?: true;
}

/** @returns The exit code: 1 when any of the copies could not be made. */
export async function fork(
  name: string | undefined,
  flags: JsonFlag & { readonly count: string },
  io: CommandIo,
): Promise<number> {
  if (!/^[1-9]\d{0,2}$/.test(flags.count)) {
    throw new UsageError(`expected a number of copies, got ${JSON.stringify(flags.count)}`);
  }
  const results = await (await find(name, io)).fork(Number(flags.count), { signal: io.signal });
  const failed = results.some(({ status }) => status === "rejected");
  if (flags.json) {
    const forks = results.map((result) =>
      result.status === "fulfilled" ? { sandbox: result.value.state } : { error: described(result.reason) },
    );
    writeJson(io, { kind: "sandbox-forks", version: 1, forks });
    return failed ? 1 : 0;
  }
  for (const result of results) {
    if (result.status === "fulfilled") io.stdout.write(`${result.value.name} ${result.value.address}\n`);
    else {
      const { message, code } = described(result.reason);
      io.stderr.write(`error: ${escapeText(message)}${code === undefined ? "" : ` [${code}]`}\n`);
    }
  }
  return failed ? 1 : 0;
}

export async function checkpoint(
  name: string | undefined,
  flags: JsonFlag & { readonly list?: true; readonly remove?: string },
  io: CommandIo,
): Promise<void> {
  if (flags.list && flags.remove !== undefined) throw new UsageError("expected --list or --remove, got both");
  const sandbox = await find(name, io);
  if (flags.remove !== undefined) {
    await sandbox.removeCheckpoint(flags.remove);
    if (flags.json)
      writeJson(io, { kind: "sandbox-checkpoint-removed", version: 1, name: sandbox.name, id: flags.remove });
    else io.stdout.write(`${sandbox.name} has no checkpoint ${flags.remove} any more\n`);
    return;
  }
  if (!flags.list) {
    const id = await sandbox.checkpoint({ signal: io.signal });
    if (flags.json) writeJson(io, { kind: "sandbox-checkpoint", version: 1, name: sandbox.name, id });
    else io.stdout.write(`${id}\n`);
    return;
  }
  const checkpoints = await sandbox.checkpoints();
  if (flags.json) {
    writeJson(io, { kind: "sandbox-checkpoints", version: 1, name: sandbox.name, checkpoints });
    return;
  }
  const rows = checkpoints.map(({ id, createdAt }) => [id, createdAt.toISOString()]);
  io.stdout.write(rows.length === 0 ? `${sandbox.name} has no checkpoints\n` : `${table([["ID", "MADE"], ...rows])}\n`);
}

export async function rewind(id: string, flags: JsonFlag & { readonly name?: string }, io: CommandIo): Promise<void> {
  const sandbox = await find(flags.name, io);
  await sandbox.rewind(id, { signal: io.signal });
  if (flags.json) writeJson(io, { kind: "sandbox-rewound", version: 1, name: sandbox.name, id });
  else io.stdout.write(`${sandbox.name} is what it was at ${id}\n`);
}

function described(reason: unknown): { code?: string; message: string } {
  const { code, message } = reason as { code?: string; message: string };
  return { ...(code === undefined ? {} : { code }), message };
}
