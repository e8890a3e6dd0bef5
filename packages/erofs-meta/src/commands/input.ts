import type { CommandIo } from "@leveret/command";
import type { Command } from "commander";
import type { DisposableBlockSource } from "../block-source.ts";
import { openInput as open } from "../internal/files.ts";

/** Options of every command that opens what may be on a web server. */
export interface InputOptions {
  readonly headerFile?: string;
}

/** Adds `--header-file`. */
export function withInputOptions(command: Command): Command {
  return command.option("--header-file <file>", "headers for a web server, a line `name: value` each");
}

/** Opens what a person named: a file, or the address of one on a web server. */
export function openInput(
  { cwd, signal }: CommandIo,
  path: string,
  { headerFile }: InputOptions = {},
): Promise<DisposableBlockSource> {
  return open(path, { cwd, signal, headerFile });
}
