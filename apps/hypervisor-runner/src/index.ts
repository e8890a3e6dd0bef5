import { type CommandIo, packageVersion, runCommand, writeJsonLine } from "@leveret/command";
import { Command, Option } from "commander";

export { processIo } from "@leveret/command";

const HELP = `
Examples:
  $ leveret-hv run --kernel vmlinuz --initrd initrd --cpus 4 --memory 512M
  $ leveret-hv selftest
`;

const RUN_HELP = `
With a terminal, everything that is typed goes to the guest, Ctrl-C too; Ctrl-A x ends it, and Ctrl-A twice is one Ctrl-A.

The exit code is 0 when the guest switched itself off or reset itself, 1 when it ended in another way.

Examples:
  $ leveret-hv run --kernel vmlinuz --initrd initrd --cmdline 'console=ttyS0 quiet' --cpus 4
  $ leveret-hv run --kernel vmlinuz --initrd initrd --disk root.qcow2:writable --net user --forward 8080:80
  $ leveret-hv run --kernel vmlinuz --initrd initrd --json --timeout 60 < /dev/null
`;

const SELFTEST_HELP = `
Example:
  $ leveret-hv selftest
`;

const INSPECT_HELP = `
The exit code is 0 when VMRUN takes the block, 1 when it refuses it.

Example:
  $ leveret-hv inspect vmcb.bin
`;

const repeated = (value: string, before: readonly string[]): readonly string[] => [...before, value];

/**
 * Runs the `leveret-hv` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and abort signal.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const codes = { done: 0, failed: 1 };
  const program = new Command("leveret-hv")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("Run guests on an AMD-V hypervisor from scratch, in QEMU")
    .addHelpText("after", HELP);
  program
    .command("run")
    .description("run a guest, with its first serial port on this terminal")
    .requiredOption("--kernel <file>", "Linux bzImage, or a flat binary")
    .option("--initrd <file>", "initial file system of a Linux kernel")
    .option("--cmdline <text>", "command line of a Linux kernel", "console=ttyS0")
    .option("--cpus <count>", "virtual processors", "1")
    .option("--memory <size>", "memory, as 512M or 2G; MiB without a unit", "256M")
    .option("--disk <file>", "virtio disk, which changes only when :writable is appended; again for more", repeated, [])
    .addOption(
      new Option("--net <kind>", "virtio network card: that of the host, or forwards only").choices([
        "user",
        "isolated",
      ]),
    )
    .option("--forward <host:guest>", "TCP port of 127.0.0.1 that leads into the guest; again for more", repeated, [])
    .option("--restart", "begin again when the guest resets itself")
    .option("--timeout <seconds>", "fail when the guest takes longer")
    .option("--json", "print one JSON object a line: what happens, and what the guest says")
    .addHelpText("after", RUN_HELP)
    .action(async (flags) => (await import("./commands/run.ts")).run(flags, io, codes));
  program
    .command("selftest")
    .description("try in QEMU which rules of VMRUN the processor enforces, and whether guests run")
    .option("--json", "print one JSON document")
    .addHelpText("after", SELFTEST_HELP)
    .action(async (flags) => (await import("./commands/selftest.ts")).selftest(flags, io, codes));
  program
    .command("inspect")
    .description("say why VMRUN refuses a control block, and what its guest exited for")
    .argument("<file>", "control block (VMCB), 4096 bytes")
    .option("--json", "print one JSON document, with all fields")
    .addHelpText("after", INSPECT_HELP)
    .action(async (path, flags) => (await import("./commands/inspect.ts")).inspect(path, flags, io, codes));
  return runCommand(program, argv, io, codes, writeJsonLine);
}
