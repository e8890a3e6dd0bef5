import { resolve } from "node:path";
import { type CommandIo, UsageError, writeJson } from "@leveret/command";
import { inspectImage } from "../inspect/read.ts";
import { renderSvg } from "../inspect/svg.ts";
import { renderText } from "../inspect/text.ts";
import { loadProjectKeys } from "../keys.ts";

interface InspectFlags {
  readonly keys?: string;
  readonly svg?: true;
  readonly json?: true;
}

export async function inspect(path: string, flags: InspectFlags, io: CommandIo): Promise<void> {
  if (flags.svg && flags.json) throw new UsageError("--svg and --json exclude each other");
  const keys = flags.keys === undefined ? undefined : await loadProjectKeys(resolve(io.cwd, flags.keys), []);
  const trusted = keys && { db: [keys.certificates.db], verity: [keys.certificates.verity] };
  const inspection = await inspectImage(resolve(io.cwd, path), { trusted, signal: io.signal });
  const shown = { ...inspection, path };
  if (flags.json) return writeJson(io, { kind: "os-inspection", version: 1, ...shown });
  if (flags.svg) return void io.stdout.write(renderSvg(shown));
  io.stdout.write(renderText(shown, io));
  if (keys === undefined) io.stdout.write("\nSignatures were read, not checked: --keys says whom to trust.\n");
}
