import { posix, resolve } from "node:path";
import { type CommandIo, UsageError, writeJson } from "@leveret/command";
import { find, placeInside } from "./find.ts";

/** A path inside: `vm-1:/etc/hosts`, or `:build` for this project's machine. */
const INSIDE = /^((?:vm-)?\d+)?:(.+)$/s;

export async function cp(from: string, to: string, flags: { readonly json?: true }, io: CommandIo): Promise<void> {
  const [source, target] = [INSIDE.exec(from), INSIDE.exec(to)];
  const [, name, path = ""] = source ?? target ?? [];
  if ((source === null) === (target === null)) {
    throw new UsageError("expected one of both to be inside of a machine: vm-1:PATH, or :PATH for this project's");
  }
  const sandbox = await find(name, io);
  const inside = posix.resolve(await placeInside(sandbox, io), path);
  const { signal } = io;
  if (source === null) await sandbox.files.copyIn({ from: resolve(io.cwd, from), to: inside, signal });
  else await sandbox.files.copyOut({ from: inside, to: resolve(io.cwd, to), signal });
  if (flags.json) writeJson(io, { kind: "sandbox-copied", version: 1, name: sandbox.name, from, to });
}
