import { type CommandIo, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";

export { processIo } from "@leveret/command";

const HELP = `
Examples:
  leveret-sandbox start            a machine for this directory, and a shell in it
  leveret-sandbox exec -- npm test run something in this directory's machine
  leveret-sandbox url 3000         where its port 3000 is on this host
  leveret-sandbox ls               all that run
  leveret-sandbox stop             end it`;

const example = (line: string): string => `\nExample:\n  ${line}`;

/**
 * Runs the `leveret-sandbox` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and abort signal.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal; that of the program for
 *   `exec` and shells.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  let ofProgram = 0;
  const program = new Command("leveret-sandbox")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("An isolated machine for the current project")
    .enablePositionalOptions()
    .addHelpText("after", HELP);

  program
    .command("start")
    .description("start this directory's machine, or find it; with a terminal, open a shell in it")
    .argument("[name]", "vm-1, vm-2 …; the first that is free unless given")
    .option("--new", "one more, although this directory has one")
    .option("--memory <MiB>", "memory", "1024")
    .option("--cpus <count>", "processors", "2")
    .option("--image <directory>", "another guest: a directory with os.config.ts and its lock")
    .option("--no-shell", "open no shell")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox start --new --memory 4096"))
    .action(async (name, flags) => {
      ofProgram = await (await import("./commands/start.ts")).start(name, flags, io);
    });
  program
    .command("exec")
    .description("run a program in a machine, as if it ran here")
    .option("-n, --name <name>", "which; this directory's unless given")
    .argument("<command...>", "program and arguments; no shell sees them")
    .passThroughOptions()
    .addHelpText("after", example("leveret-sandbox exec -- sh -c 'npm ci && npm test'"))
    .action(async (command, flags) => {
      ofProgram = await (await import("./commands/others.ts")).exec(flags.name, command, io);
    });
  program
    .command("shell")
    .description("open a shell in a machine")
    .argument("[name]", "which; this directory's unless given")
    .addHelpText("after", example("leveret-sandbox shell vm-2"))
    .action(async (name) => {
      ofProgram = await (await import("./commands/others.ts")).exec(name, ["/bin/bash", "-l"], io);
    });
  program
    .command("ls")
    .description("list the machines that run")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox ls"))
    .action(async (flags) => (await import("./commands/others.ts")).list(flags, io));
  program
    .command("url")
    .description("where a port of a machine is on this host")
    .argument("<port>", "what something listens on inside")
    .option("-n, --name <name>", "which; this directory's unless given")
    .addHelpText("after", example("curl $(leveret-sandbox url 3000)"))
    .action(async (port, flags) => (await import("./commands/others.ts")).url(port, flags, io));
  program
    .command("stop")
    .description("end a machine, and everything that was changed in it outside of the workspace")
    .argument("[name]", "which; this directory's unless given")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox stop vm-2"))
    .action(async (name, flags) => (await import("./commands/others.ts")).stop(name, flags, io));

  const exitCode = await runCommand(program, argv, io);
  return exitCode === 0 ? ofProgram : exitCode;
}
