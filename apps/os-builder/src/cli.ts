import { type CommandIo, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";

export { processIo } from "@leveret/command";

const HELP = `
Examples:
  leveret-os init                  a description, keys and a .gitignore in this directory
  leveret-os lock                  pin every package by version and hash
  leveret-os image                 build, sign and assemble the disk image
  leveret-os boot                  boot it under Secure Boot and show what it verified
  leveret-os inspect images/particle_0.1.0.raw --keys keys
                                   draw its partitions, check its trust chain

Environment:
  LEVERET_DEBIAN_MIRROR, LEVERET_DEBIAN_SECURITY_MIRROR, LEVERET_NIX, LEVERET_NIX_STORE, LEVERET_QEMU, LEVERET_OVMF`;

const example = (line: string): string => `\nExample:\n  ${line}`;

/**
 * Runs the `leveret-os` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and abort signal.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  // What boot and doctor find may be bad although they did all they were asked to do.
  let isGood = true;
  const program = new Command("leveret-os")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("Signed, immutable operating systems from a typed description")
    .addHelpText("after", HELP);
  const project = "directory with os.config.ts, or that file";

  program
    .command("init")
    .description("write what is missing: a description, signing keys, a .gitignore")
    .argument("[directory]", "where", ".")
    .option("--id <id>", "what the system is called")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os init particle"))
    .action(async (directory, flags) => (await import("./commands/init.ts")).init(directory, flags, io));
  program
    .command("lock")
    .description("resolve the packages and write os.lock.json")
    .argument("[project]", project, ".")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os lock particle"))
    .action(async (path, flags) => (await import("./commands/lock.ts")).lock(path, flags, io));
  program
    .command("build")
    .description("build the unsigned artefacts with Nix")
    .argument("[project]", project, ".")
    .option(
      "--direct",
      "what a direct kernel boot takes: a kernel, an initrd, and all of the system as one EROFS image",
    )
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os build particle --json"))
    .action(async (path, flags) => (await import("./commands/build.ts")).build(path, flags, io));
  program
    .command("image")
    .description("build, sign and assemble the disk image")
    .argument("[project]", project, ".")
    .option("-o, --output <directory>", "where the image goes (default: images beside the description)")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os image particle --output out"))
    .action(async (path, flags) => (await import("./commands/image.ts")).image(path, flags, io));
  program
    .command("boot")
    .description("boot the image under Secure Boot with a TPM, show what it verified inside, and power it off")
    .argument("[project]", project, ".")
    .option("-o, --output <directory>", "where the image is (default: images beside the description)")
    .option("--serial", "show the serial console as it goes (on stderr)")
    .option("--timeout <seconds>", "how long the boot may take", "900")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os boot particle --serial"))
    .action(async (path, flags) => {
      isGood = await (await import("./commands/boot.ts")).boot(path, flags, io);
    });
  program
    .command("inspect")
    .description("draw the partition map and the trust chain of a disk image")
    .argument("<image>", "a raw disk image")
    .option("--keys <directory>", "check the signatures against these keys' certificates")
    .option("--svg", "print a drawing")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os inspect particle_0.1.0.raw --svg > particle.svg"))
    .action(async (path, flags) => (await import("./commands/inspect.ts")).inspect(path, flags, io));
  program
    .command("doctor")
    .description("say what is there, what is missing, and the command that fixes it")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-os doctor"))
    .action(async (flags) => {
      isGood = await (await import("./commands/doctor.ts")).doctor(flags, io);
    });

  const exitCode = await runCommand(program, argv, io);
  return exitCode === 0 && !isGood ? 1 : exitCode;
}
