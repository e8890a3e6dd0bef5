import { type CommandIo, runCommand } from "@leveret/command";
import { Command } from "commander";

export { processIo } from "@leveret/command";

/**
 * Runs the command line.
 *
 * @param argv - Arguments without the program.
 * @param io - Streams, environment, working directory and signal.
 * @returns Exit code: 0 done, 1 failed, 2 wrong usage.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("qemu-harness").description("Start, drive and test QEMU machines");
  return runCommand(program, argv, io);
}
