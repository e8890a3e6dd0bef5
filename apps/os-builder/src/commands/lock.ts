import { resolve } from "node:path";
import { type CommandIo, formatBytes, table, withProgress, writeJson } from "@leveret/command";
import { loadProject } from "../config/load.ts";
import { LOCK_FILE } from "../lock.ts";
import { lockPackages } from "../pipeline.ts";

export async function lock(path: string, flags: { json?: true }, io: CommandIo): Promise<void> {
  const project = await loadProject(resolve(io.cwd, path));
  const locked = await withProgress(io, (onProgress) =>
    lockPackages(project, { env: io.env, signal: io.signal, onProgress }),
  );
  const sets = Object.entries(locked.sets).map(([set, names]) => ({
    set,
    packages: names.length,
    downloadBytes: names.reduce((sum, name) => sum + (locked.packages[name]?.sizeBytes ?? 0), 0),
  }));
  if (flags.json)
    return writeJson(io, { kind: "os-lock", version: 1, file: resolve(project.directory, LOCK_FILE), sets });
  const rows = sets.map(({ set, packages, downloadBytes }) => [
    `  ${set}`,
    `${packages} packages`,
    formatBytes(downloadBytes),
  ]);
  io.stdout.write(
    `${LOCK_FILE}: ${Object.keys(locked.packages).length} packages of Debian ${locked.suite}\n${table(rows)}\n`,
  );
}
