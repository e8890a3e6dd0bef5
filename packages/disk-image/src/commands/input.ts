import type { CommandIo } from "@leveret/command";
import type { Command } from "commander";
import { openInput as open } from "../internal/files.ts";
import { type DiskImage, openDiskImage } from "../open.ts";

/** Options of every command that opens what may be on a web server. */
export interface InputOptions {
  readonly headerFile?: string;
}

/** Adds `--header-file`. */
export function withInputOptions(command: Command): Command {
  return command.option("--header-file <file>", "headers for a web server, a line `name: value` each");
}

/** Opens the disk a person named: a file, or the address of one on a web server. */
export async function openInput(
  { cwd, signal }: CommandIo,
  path: string,
  { headerFile }: InputOptions,
): Promise<DiskImage> {
  const source = await open(path, { cwd, signal, headerFile });
  try {
    return await openDiskImage(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}
