import { type CommandIo, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";
import { debianCommand } from "./commands/debian.ts";
import { fromJsonCommand } from "./commands/from-json.ts";
import { narHashCommand } from "./commands/nar-hash.ts";

export { processIo } from "@leveret/command";

/**
 * Runs the `nix-gen` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and abort signal.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal.
 */
export function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("nix-gen")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("Nix code from data: expressions, archives, package sources");
  program.addCommand(fromJsonCommand(io)).addCommand(narHashCommand(io)).addCommand(debianCommand(io));
  return runCommand(program, argv, io);
}
