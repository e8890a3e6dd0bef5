import { type CommandIo, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";
import { addCreateCommand } from "./commands/create.ts";
import { addExtractCommand } from "./commands/extract.ts";
import { addInspectCommand } from "./commands/inspect.ts";
import { addRepairCommand } from "./commands/repair.ts";
import { addReplaceCommand } from "./commands/replace.ts";

export { processIo } from "@leveret/command";

/**
 * The `disk-image` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and interruption.
 * @returns 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("disk-image")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("Write, inspect, take apart and change GPT disks with FAT system partitions")
    .addHelpText(
      "after",
      `
Examples:
  disk-image create os.json os.raw
  disk-image create os.json os.qcow2 --format qcow2
  disk-image inspect os.raw --files
  disk-image extract os.raw usr-x86-64 usr.erofs
  disk-image extract os.raw esp BOOTX64.EFI --path EFI/BOOT/BOOTX64.EFI
  disk-image replace os.raw _empty usr.erofs --label os_2
  disk-image repair os.raw`,
    );
  addCreateCommand(program, io);
  addInspectCommand(program, io);
  addExtractCommand(program, io);
  addReplaceCommand(program, io);
  addRepairCommand(program, io);
  return runCommand(program, argv, io);
}
