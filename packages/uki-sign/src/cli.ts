import { type CommandIo, runCommand } from "@leveret/command";
import { Command } from "commander";
import { addBuildCommand } from "./commands/build.ts";
import { addEventlogCommand } from "./commands/eventlog.ts";
import { addInspectCommand } from "./commands/inspect.ts";
import { addKeysCommand } from "./commands/keys.ts";
import { addMeasureCommand } from "./commands/measure.ts";
import { addSignCommand } from "./commands/sign.ts";
import { addSignaturesCommand } from "./commands/signatures.ts";
import { addVarsCommand } from "./commands/vars.ts";
import { addVerifyCommand } from "./commands/verify.ts";

export { processIo } from "@leveret/command";

/** Adds one subcommand to the program. */
type AddCommand = (program: Command, io: CommandIo) => void;

const COMMANDS: readonly AddCommand[] = [
  addBuildCommand,
  addSignCommand,
  addSignaturesCommand,
  addVerifyCommand,
  addInspectCommand,
  addMeasureCommand,
  addEventlogCommand,
  addKeysCommand,
  addVarsCommand,
];

/**
 * The `uki-sign` command line.
 *
 * @param argv - Arguments after the program's name.
 * @param io - The process it runs in.
 * @returns 0 done, 1 failed or refused, 2 wrong usage.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("uki-sign").description(
    "Assemble, sign, verify and measure unified kernel images, and the Secure Boot variables that trust them.",
  );
  for (const add of COMMANDS) add(program, io);
  return await runCommand(program, argv, io);
}
