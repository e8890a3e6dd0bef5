import { resolve } from "node:path";
import { type CommandIo, table, withProgress, writeJson } from "@leveret/command";
import { loadProject } from "../config/load.ts";
import { buildProject } from "../pipeline.ts";

export async function build(path: string, flags: { json?: true }, io: CommandIo): Promise<void> {
  const project = await loadProject(resolve(io.cwd, path));
  const artefacts = await withProgress(io, (onProgress) =>
    buildProject(project, { env: io.env, signal: io.signal, onProgress }),
  );
  if (flags.json) return writeJson(io, { kind: "os-artefacts", version: 1, ...artefacts });
  io.stdout.write(
    `${table([
      ["/usr", artefacts.usr],
      ["initrd", artefacts.initrd],
      ["boot files", artefacts.bootFiles],
    ])}\n`,
  );
}
