import { type CommandIo, runCommand } from "@leveret/command";
import { Command, Option } from "commander";
import { probe } from "./commands/probe.ts";
import { parseSeconds, type RunFlags, run } from "./commands/run.ts";

export { processIo } from "@leveret/command";

/**
 * Runs the command line.
 *
 * @param argv - Arguments without the program.
 * @param io - Streams, environment, working directory and signal.
 * @returns Exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("qemu-harness").description("Start, drive and test QEMU machines");
  program
    .command("probe")
    .description("say which QEMU, firmware and TPM emulator are there, and whether KVM works")
    .option("--fresh", "run the KVM probe again although its answer is known")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  $ qemu-harness probe\n")
    .action((flags: { fresh?: boolean; json?: boolean }) => probe(flags, io));
  program
    .command("run")
    .description("run a machine; its first console is shown on standard output")
    .argument("<description>", "JSON file with a machine description; relative paths start from its directory")
    .option("--until <pattern>", "end the machine when this regular expression appears on the console")
    .option("--timeout <seconds>", "fail when that, or the machine's own end, takes longer", parseSeconds)
    .addOption(
      new Option("--accelerator <name>", "how guest code is run").choices(["auto", "kvm", "tcg"]).default("auto"),
    )
    .option("--plan", "print the QEMU command line and start nothing")
    .option("--json", "print one JSON document, with the console's text in it")
    .addHelpText("after", RUN_EXAMPLES)
    .action((path: string, flags: RunFlags) => run(path, flags, io));
  return runCommand(program, argv, io);
}

const RUN_EXAMPLES = `
Examples:
  $ echo '{ "boot": { "type": "uefi" } }' > machine.json
  $ qemu-harness run machine.json --until 'UEFI Interactive Shell' --timeout 60
  $ qemu-harness run machine.json --plan
`;
