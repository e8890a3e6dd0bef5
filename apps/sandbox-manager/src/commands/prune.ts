import { type CommandIo, formatBytes, writeJson } from "@leveret/command";
import { pruneSandboxes } from "../prune.ts";

interface PruneFlags {
  readonly all?: true;
  readonly dryRun?: true;
  readonly json?: true;
}

export async function prune(flags: PruneFlags, io: CommandIo): Promise<void> {
  const { dryRun = false } = flags;
  const { templates, transcripts } = await pruneSandboxes({ all: flags.all, dryRun, env: io.env });
  if (flags.json) {
    writeJson(io, { kind: "sandbox-pruned", version: 1, dryRun, templates, transcripts });
    return;
  }
  const verb = dryRun ? "would remove" : "removed";
  for (const { id, sizeBytes, usedAt } of templates) {
    io.stdout.write(`${verb} template ${id}, ${formatBytes(sizeBytes)}, last used ${usedAt.toISOString()}\n`);
  }
  for (const { name, sizeBytes } of transcripts) {
    io.stdout.write(`${verb} what ${name} has said, ${formatBytes(sizeBytes)}\n`);
  }
  const sizeBytes = [...templates, ...transcripts].reduce((sum, each) => sum + each.sizeBytes, 0);
  io.stdout.write(`${dryRun ? "would free" : "freed"} ${formatBytes(sizeBytes)}\n`);
}
