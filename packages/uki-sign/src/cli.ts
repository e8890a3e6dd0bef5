import { type CommandIo, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";

export { processIo } from "@leveret/command";

/** Adds one subcommand to the program. */
type AddCommand = (program: Command, io: CommandIo) => void;

// Loaded when they are needed: most of what a command costs is reading the code of the others.
const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  build: async () => (await import("./commands/build.ts")).addBuildCommand,
  sign: async () => (await import("./commands/sign.ts")).addSignCommand,
  signatures: async () => (await import("./commands/signatures.ts")).addSignaturesCommand,
  verify: async () => (await import("./commands/verify.ts")).addVerifyCommand,
  inspect: async () => (await import("./commands/inspect.ts")).addInspectCommand,
  measure: async () => (await import("./commands/measure.ts")).addMeasureCommand,
  eventlog: async () => (await import("./commands/eventlog.ts")).addEventlogCommand,
  keys: async () => (await import("./commands/keys.ts")).addKeysCommand,
  signer: async () => (await import("./commands/signer.ts")).addSignerCommand,
  vars: async () => (await import("./commands/vars.ts")).addVarsCommand,
};

/**
 * The `uki-sign` command line.
 *
 * @param argv - Arguments after the program's name.
 * @param io - The process it runs in.
 * @returns 0 done, 1 failed or refused, 2 wrong usage.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("uki-sign")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description(
      "Assemble, sign, verify and measure unified kernel images, and the Secure Boot variables that trust them",
    )
    .addHelpText(
      "after",
      `
Examples:
  uki-sign keys generate keys
  uki-sign build --stub linuxx64.efi.stub --linux vmlinuz --initrd initrd.img --cmdline quiet \\
    --keys keys -o linux.efi
  uki-sign inspect linux.efi
  uki-sign verify --certificate keys/db.crt linux.efi
  uki-sign measure linux.efi
  uki-sign vars enroll /usr/share/OVMF/OVMF_VARS_4M.fd --keys keys -o vars.fd
  uki-sign eventlog binary_bios_measurements`,
    );
  const [name = ""] = argv;
  const wanted = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
  for (const load of wanted) (await load?.())?.(program, io);
  return await runCommand(program, argv, io);
}
