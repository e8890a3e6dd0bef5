import type { Command } from "commander";

/** Options of every command that opens what may be on a web server. */
export interface InputFlags {
  readonly headerFile?: string;
}

/** Adds `--header-file`. */
export function withInputOptions(command: Command): Command {
  return command.option("--header-file <file>", "headers for a web server, a line `name: value` each");
}
