import { resolve } from "node:path";
import { type CommandIo, table, withProgress, writeJson } from "@leveret/command";
import { loadProject } from "../config/load.ts";
import type { Artefacts, DirectArtefacts } from "../nix/artefacts.ts";
import { buildDirect, buildProject } from "../pipeline.ts";

export async function build(path: string, flags: { direct?: true; json?: true }, io: CommandIo): Promise<void> {
  const project = await loadProject(resolve(io.cwd, path));
  const run = flags.direct ? buildDirect : buildProject;
  const artefacts = await withProgress<Artefacts | DirectArtefacts>(io, (onProgress) =>
    run(project, { env: io.env, signal: io.signal, onProgress }),
  );
  if (flags.json) {
    const kind = flags.direct ? "os-direct-artefacts" : "os-artefacts";
    return writeJson(io, { kind, version: 1, ...artefacts });
  }
  const rows = Object.entries(artefacts).map(([name, place]: [string, string]) => [NAMES[name] ?? name, place]);
  io.stdout.write(`${table(rows)}\n`);
}

/** What artefacts are called for people, where that is not what they are called for programs. */
const NAMES: Readonly<Record<string, string>> = { usr: "/usr", bootFiles: "boot files", root: "/" };
