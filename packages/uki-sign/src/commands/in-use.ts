import { basename } from "node:path";
import type { CommandIo } from "@leveret/command";
import type { Command } from "commander";
import type { InUse } from "../efi/dbx-guard.ts";
import { type OpenInputs, readInput } from "../internal/files.ts";
import { decodeEventLog } from "../tcg/event-log.ts";
import { collect } from "./arguments.ts";

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
export async function readInUse(io: CommandIo, inputs: OpenInputs, flags: InUseFlags): Promise<InUse | undefined> {
  const { inUse, inUseLog } = flags;
  if (inUse === undefined && inUseLog === undefined) return undefined;
  const images = await Promise.all(
    (inUse ?? []).map(async (path) => ({ name: basename(path), image: await inputs.open(path) })),
  );
  return { images, log: inUseLog === undefined ? undefined : decodeEventLog(await readInput(io.cwd, inUseLog)) };
}
