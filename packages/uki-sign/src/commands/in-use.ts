import { basename } from "node:path";
import type { Command } from "commander";
import type { InUse } from "../efi/dbx-guard.ts";
import { DEFAULT_MAX_EVENT_LOG_BYTES, decodeEventLog } from "../tcg/event-log.ts";
import { collect } from "./arguments.ts";
import type { CommandFiles } from "./command-files.ts";

/** Flags of {@link addInUseOptions}. */
export interface InUseFlags {
  readonly inUse?: readonly string[];
  readonly inUseLog?: string;
}

/** Adds the flags that say what machines boot, which dbx has to spare. */
export function addInUseOptions(command: Command): Command {
  return command
    .option("--in-use <file>", "image that has to boot still; refuses to forbid it; several allowed", collect)
    .option("--in-use-log <file>", "TCG event log of a boot that has to be possible still");
}

/** What the flags name; undefined when they name nothing. */
export async function readInUse(files: CommandFiles, flags: InUseFlags): Promise<InUse | undefined> {
  const { inUse, inUseLog } = flags;
  if (inUse === undefined && inUseLog === undefined) return undefined;
  const images = await Promise.all(
    (inUse ?? []).map(async (path) => ({ name: basename(path), image: await files.open(path) })),
  );
  const log = inUseLog === undefined ? undefined : await files.read(inUseLog, DEFAULT_MAX_EVENT_LOG_BYTES);
  return { images, log: log && decodeEventLog(log) };
}
